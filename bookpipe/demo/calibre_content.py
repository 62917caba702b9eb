"""What the books of a sample library are called, in eleven languages, and who wrote how many of them.

All names and titles are put together from short word lists. The lists keep to words that need no
inflection where they are used (masculine adjectives and nouns), so that the titles read like titles.
"""

import random
from array import array
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Language:
    """A language's words. `code` is ISO 639-3, `short_code` ISO 639-1; a title pattern holds {a}, {n} and {m}."""

    code: str
    short_code: str
    given: tuple[str, ...]
    middle: tuple[str, ...]
    family: tuple[str, ...]
    adjectives: tuple[str, ...]
    nouns: tuple[str, ...]
    titles: tuple[str, ...]
    series: str
    full_stop: str = "."
    family_first: bool = False  # family name first and no spaces: Chinese and Japanese

    def person(self, number: int) -> str:
        """The name of a person: one name for every number, common forms first, then with middle names."""
        rest, first = divmod(number, len(self.given))
        rest, last = divmod(rest, len(self.family))
        # Without the shift neighbouring numbers would all be relatives.
        given, family = self.given[first], self.family[(last + 7 * first) % len(self.family)]
        middle: list[str] = []
        while rest:
            rest, digit = divmod(rest - 1, len(self.middle))
            middle.append(self.middle[digit])
        if self.family_first:
            return "".join([family, *middle, given])
        return " ".join([given, *middle, family])

    def title(self, rng: random.Random) -> str:
        """A book title."""
        noun, other = rng.sample(self.nouns, 2)
        return _capital(rng.choice(self.titles).format(a=rng.choice(self.adjectives), n=noun, m=other))

    def series_name(self, rng: random.Random) -> str:
        """The name of a series."""
        return _capital(self.series.format(a=rng.choice(self.adjectives), n=rng.choice(self.nouns)))

    def prose(self, rng: random.Random, sentences: int) -> str:
        """That many sentences of what could be a blurb, if one does not read too closely."""
        return " ".join(f"{self.title(rng)}, {self.title(rng).lower()}{self.full_stop}" for _ in range(sentences))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_LATIN_INITIALS = tuple(f"{letter}." for letter in "ABCDEFGHJKLMNOPRSTVWZ")

ENGLISH = Language(
    code="eng",
    short_code="en",
    given=_words("Alice Martin Ruth Oliver Grace Henry Nora Walter Edith Samuel Iris Peter Hazel Simon Clara Hugh"),
    middle=_LATIN_INITIALS,
    family=_words(
        "Ashdown Barlow Carver Denholm Eastman Farrow Gilroy Hartwell Ingram Jessop Kirkwood Larkin Merrow"
        " Norcott O'Dell Pemberton Quayle Redfern Sallow Thackray Underhill Vance Wetherby Yardley"
    ),
    adjectives=_words("silent last hidden burning broken distant golden hollow restless winter forgotten iron pale"),
    nouns=_words(
        "garden river lantern harbour orchard kingdom mirror clockmaker island letter winter tower sea stranger"
        " bridge window forest brother cartographer storm railway"
    ),
    titles=("the {a} {n}", "{a} {n}", "the {n} and the {m}", "no {n} for the {m}", "{n}: a history", "the {m}'s {n}"),
    series="Chronicles of the {a} {n}",
)
CZECH = Language(
    code="ces",
    short_code="cs",
    given=_words("Jan Jiří Petr Ondřej Matěj Šimon Vojtěch Řehoř Božena Eliška Žofie Tereza Ludmila Zdeněk Květa Aleš"),
    middle=_LATIN_INITIALS,
    family=_words(
        "Novák Dvořáček Křepelka Šťastný Žák Čermák Růžek Vondráček Hřebíček Kadlec Majer Pospíchal Sýkora Tůma"
        " Vích Zástěra"
    ),
    adjectives=_words("tichý poslední ztracený černý dřevěný spící žlutý zimní cizí bláznivý hořící železný"),
    nouns=_words("dům les vlak mlýn přítel hřbitov ostrov dopis kůň most déšť hodinář zámek vítr"),
    titles=("{a} {n}", "{n} a {m}", "{a} {n} a jiné povídky", "můj {a} {n}", "{n}", "{n} jako {m}"),
    series="{a} {n}: kroniky",
)
SLOVAK = Language(
    code="slk",
    short_code="sk",
    given=_words("Ján Ľubomír Katarína Štefan Zuzana Matúš Oľga Juraj Ďuro Želmíra Peter Anna"),
    middle=_LATIN_INITIALS,
    family=_words("Hruška Kováčik Vŕba Šťavina Ďurčo Ľupták Mäsiar Oravec Žitný Bôrik Jesenský Tŕň"),
    adjectives=_words("tichý posledný stratený čierny hlboký ďaleký krehký biely vlčí zlatý"),
    nouns=_words("dom dážď kôň vlak mlyn ľad list sused potok tŕň čas hrad"),
    titles=("{a} {n}", "{n} a {m}", "{a} {n} a {m}", "môj {a} {n}", "{n}"),
    series="{a} {n}: sága",
)
RUSSIAN = Language(
    code="rus",
    short_code="ru",
    given=_words("Иван Анна Пётр Фёдор Ольга Юрий Лидия Сергей Наталья Артём Глеб Вера"),
    middle=tuple(f"{letter}." for letter in "АБВГДЕИКЛМНПРСФЭЮЯ"),
    family=_words("Берёзкин Журавлёв Соловьёв Чайкин Щукин Яблочков Громов Ильинский Ковалёв Морозец Рябинин Тихий"),
    adjectives=_words("тихий последний чёрный далёкий ночной зимний железный пустой старый чужой"),
    nouns=_words("дом лес поезд остров снег ветер сад город мост друг ключ берег"),
    titles=("{a} {n}", "{n} и {m}", "{a} {n} и {a} {m}", "мой {a} {n}", "{n}", "{n} — {m}"),
    series="{a} {n}. Хроники",
)
GERMAN = Language(
    code="deu",
    short_code="de",
    given=_words("Jürgen Käthe Ulrich Sabine Günther Anneliese Bernd Lieselotte Moritz Friederike Jörg Heidrun"),
    middle=_LATIN_INITIALS,
    family=_words(
        "Müllner Schäfer Großmann Weißhaupt Brückner Köhlert Vogelsang Lindqvist Oehler Jägerhoff Fürst Ziegler"
    ),
    adjectives=_words("stille letzte verlorene schwarze hölzerne ferne kühle fremde grüne eiserne"),
    nouns=_words("Garten Fluss Wald Spiegel Brief Zug Turm Schlüssel Winter Gast Nebel Uhrmacher"),
    titles=("der {a} {n}", "{n} und {m}", "der {n}", "der {a} {n} – ein Roman", "kein {n}, kein {m}"),
    series="Der {a} {n}",
)
POLISH = Language(
    code="pol",
    short_code="pl",
    given=_words("Łukasz Agnieszka Wojciech Małgorzata Bożena Grzegorz Zofia Kazimierz Światosław Jadwiga"),
    middle=_LATIN_INITIALS,
    family=_words("Wróbel Kowalczyk Żurawski Ślęzak Dąbek Łączny Gąsior Mazurek Źrebiec Pszczółka"),
    adjectives=_words("cichy ostatni zagubiony czarny śpiący daleki zimowy żelazny obcy złoty"),
    nouns=_words("dom las pociąg młyn list deszcz most ogród sąsiad koń zegarmistrz księżyc"),
    titles=("{a} {n}", "{n} i {m}", "{n}", "mój {a} {n}", "{a} {n} i inne opowiadania"),
    series="{a} {n}: cykl",
)
FRENCH = Language(
    code="fra",
    short_code="fr",
    given=_words("François Hélène Benoît Zoé Jérôme Agnès Théo Cécile Noël Léa"),
    middle=_LATIN_INITIALS,
    family=_words("Lefèvre Garçonnet Beaulieu Côtelle Duchêne Français Marchançon Noiret Prévôt Vallée"),
    adjectives=_words("secret perdu noir silencieux muet lointain doré brisé étranger bleu"),
    nouns=_words("jardin fleuve miroir château train voisin facteur rêve pont phare sommeil cœur"),
    titles=("le {n} {a}", "le {n} et le {m}", "un {n} {a}", "le {n} du {m}", "{n} sans {m}"),
    series="Le {n} {a}",
)
SPANISH = Language(
    code="spa",
    short_code="es",
    given=_words("José Íñigo María Begoña Ramón Lucía Álvaro Inés Óscar Nuria"),
    middle=_LATIN_INITIALS,
    family=_words("Ibáñez Muñiz Peñalosa Quiñones Zúñiga Cárdenas Lobato Bermejo Núñez Alcántar"),
    adjectives=_words("perdido secreto negro lejano callado roto dorado extraño oscuro vacío"),
    nouns=_words("jardín río espejo tren puente faro invierno sueño camino relojero niño corazón"),
    titles=("el {n} {a}", "el {n} y el {m}", "un {n} {a}", "el {n} del {m}", "sin {n} ni {m}"),
    series="El {n} {a}",
)
CHINESE = Language(
    code="zho",
    short_code="zh",
    given=_words("明 丽 伟 芳 强 静 磊 雪 海 云"),
    middle=_words("小 文 志 春 建 晓"),
    family=_words("王 李 张 刘 陈 杨 赵 黄 周 吴"),
    adjectives=_words("寂静 最后 遥远 黑色 金色 破碎 古老 无名"),
    nouns=_words("森林 河流 花园 灯塔 信件 冬天 城市 海岛 钟表匠 月亮"),
    titles=("{a}的{n}", "{n}与{m}", "{n}", "{a}的{n}和{m}", "{n}里的{m}"),
    series="{a}的{n}系列",
    full_stop="。",
    family_first=True,
)
JAPANESE = Language(
    code="jpn",
    short_code="ja",
    given=_words("太郎 花子 健一 美咲 翔 さくら 直樹 恵"),
    middle=_words("真 和 一 美"),
    family=_words("佐藤 高橋 渡辺 小林 山口 石川 森田 青木"),
    adjectives=_words("静かな 最後の 遠い 黒い 古い 見えない 白い 冬の"),
    nouns=_words("森 川 庭 手紙 島 時計 鏡 駅 猫 約束"),
    titles=("{a}{n}", "{n}と{m}", "{a}{n}の{m}", "{n}", "さよなら、{n}"),
    series="{a}{n}シリーズ",
    full_stop="。",
    family_first=True,
)
ARABIC = Language(
    code="ara",
    short_code="ar",
    given=_words("أحمد فاطمة يوسف ليلى خالد مريم سامي نادية"),
    middle=("بن علي", "بن حسن", "بن عمر", "بن سعيد"),
    family=_words("الخطيب النجار الحداد السعدي القاضي البصري الشامي المصري"),
    adjectives=_words("القديم الأخير البعيد الأسود الصامت المفقود الغريب"),
    nouns=_words("البيت النهر الطريق القطار البحر الجسر الشتاء القمر"),
    titles=("{n} {a}", "{n} و{m}", "{n}", "حكاية {n} {a}"),
    series="سلسلة {n} {a}",
)

LANGUAGES = (
    ENGLISH,
    CZECH,
    SLOVAK,
    RUSSIAN,
    GERMAN,
    POLISH,
    FRENCH,
    SPANISH,
    CHINESE,
    JAPANESE,
    ARABIC,
)
LANGUAGE_WEIGHTS = (30, 22, 7, 11, 9, 5, 5, 4, 3, 2, 2)

# MyBookshelf2's genres, two names it knows as synonyms ("Sci-Fi", "Humor and Satire") among them.
GENRES = (
    *("Fantasy", "Science Fiction", "Crime/Mystery", "Thriller", "Fiction", "Sci-Fi", "Adventure", "Horror"),
    *("History", "Humor and Satire", "Poetry", "Biography", "Children's Books", "War", "Travel", "Science"),
)
FREE_TAGS = (
    *("to read", "borrowed", "beletrie", "povídky", "Prague", "audio later", "дача", "Krimi", "短編", "mám doma"),
    *("read in 2019", "school", "gift", "favourite", "unfinished", "sci-fi & fantasy", "e-reader", "N/A", "scanned"),
)
PUBLISHERS = (
    *("Lantern House", "Nakladatelství U Mlýna", "Vydavateľstvo Tŕň", "Издательство «Берег»", "Verlag am Fluss"),
    *("Wydawnictwo Żuraw", "Éditions du Phare", "Editorial El Puente", "河流出版社", "青木書房", "دار القمر"),
    *("Harbour & Sons", "Self-published", "Iron Orchard Press", "Mlynářova knihovna, s.r.o.", "Redfern University"),
)


@dataclass(frozen=True, slots=True)
class Credit:
    """Who wrote a book and where it stands in a series, by running numbers from 0 on; `series` None is no series."""

    authors: tuple[int, ...]
    series: int | None
    series_index: float


_AUTHOR_COUNTS = (1, 2, 3, 4)
_AUTHOR_COUNT_WEIGHTS = (84, 11, 3, 2)
_FIRST_INDEXES = (1.0, 0.0, 0.5)
_FIRST_INDEX_WEIGHTS = (90, 7, 3)
_STEPS = (1.0, 0.5, 2.0)
_STEP_WEIGHTS = (91, 6, 3)

ANTHOLOGIES = 0.01


def draw_credits(rng: random.Random, *, in_series: float) -> Iterator[Credit]:
    """Credits without end: about 0.45 authors per book, few of them with many books, most with one.

    An author is either new or drawn from all earlier mentions, so that the popular become more so (Yule's
    process), and every author has a book. A series goes on with its own authors, by 1, sometimes by a half;
    it starts at 1, sometimes at 0. `in_series` is a share of all books, as is ANTHOLOGIES (5 to 12 authors).
    """
    mentions = array("Q")
    authors = 0
    series: list[tuple[tuple[int, ...], float]] = []
    # Books that go on with a series bring nobody new; the others make up for them.
    new_author = 0.45 / ((1 - 0.7 * in_series) * (1.23 + 7 * ANTHOLOGIES))
    while True:
        serial = rng.random() < in_series
        if serial and series and rng.random() < 0.7:
            number = rng.randrange(len(series))
            names, last = series[number]
            index = last + rng.choices(_STEPS, _STEP_WEIGHTS)[0]
            series[number] = (names, index)
            mentions.extend(names)
            yield Credit(names, number, index)
            continue
        count = rng.choices(_AUTHOR_COUNTS, _AUTHOR_COUNT_WEIGHTS)[0]
        if rng.random() < ANTHOLOGIES:
            count = rng.randint(5, 12)
        chosen: list[int] = []
        for _ in range(count):
            if not mentions or rng.random() < new_author:
                chosen.append(authors)
                mentions.append(authors)
                authors += 1
            else:
                author = mentions[rng.randrange(len(mentions))]
                if author not in chosen:
                    chosen.append(author)
                    mentions.append(author)
        names = tuple(chosen)
        if not serial:
            yield Credit(names, None, 1.0)
            continue
        index = rng.choices(_FIRST_INDEXES, _FIRST_INDEX_WEIGHTS)[0]
        series.append((names, index))
        yield Credit(names, len(series) - 1, index)
