import io,sys,tarfile,time,os
from pathlib import Path
import pytest
from bookpipe.demo.ebook_files import MAKERS, BookText
from bookpipe.pipelines.tars import *
from bookpipe.runtime.state import State
from bookpipe.sources.tar_shards import Shard
from bookpipe.resolve.books import BookOptions
from bookpipe_tests.targets.shelf import Shelf
def test_x(shelf, tmp_path):
    p=tmp_path/"16470000.tar"
    with tarfile.open(p,"w") as t:
        n=0
        for ext,make in MAKERS.items():
            for k in range(3):
                b=make(BookText(f"Title {ext} {k}",("Jane Doe",),"en","S" if k else None,1.0,("Fantasy",),1999,"body "*100*k))
                i=tarfile.TarInfo(str(16470000+n)); n+=1; i.size=len(b); t.addfile(i,io.BytesIO(b))
        for junk in (b"junk\0"*100,b"PK\5\6"+bytes(18),b""):
                i=tarfile.TarInfo(str(16470000+n)); n+=1; i.size=len(junk); t.addfile(i,io.BytesIO(junk))
    sh=Shard("16470000",p,"tar")
    st=State(tmp_path/"state.db")
    r=load_shard(shelf.target,sh,BookOptions(),st)
    print(r); print(shelf.meaning()["ebooks"][:4]); print(list(st.list_rejections()))
    print([x for x in shelf.tree()][:20])
    r=load_shard(shelf.target,sh,BookOptions(),st); print(r)
    os.utime(p); r=load_shard(shelf.target,sh,BookOptions(),st); print(r)
    print(plan_shard_dry(shelf.target,sh,BookOptions()))
    print(index_shard(sh), [len(x) for x in loaded_sources(shelf.target,"16470000")])
