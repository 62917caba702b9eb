-- The rows a new MyBookshelf2 database starts with. Ids are fixed: the application and its clients refer to them.

-- The blanks at the end of three MIME types are the application's own: it finds these formats by extension only.
INSERT INTO format (id, version_id, extension, name, mime_type) VALUES
    (1, 1, 'pdf', 'PDF', 'application/pdf'),
    (2, 1, 'txt', 'Plain text', 'text/plain'),
    (3, 1, 'pdb', 'Palm database', 'application/x-aportisdoc'),
    (4, 1, 'rtf', 'Rich text', 'application/rtf'),
    (5, 1, 'doc', 'Word document', 'application/msword'),
    (6, 1, 'mobi', 'Mobipocket', 'application/x-mobipocket-ebook'),
    (7, 1, 'prc', 'Palm resource', 'application/vnd.palm '),
    (8, 1, 'epub', 'EPUB', 'application/epub+zip'),
    (9, 1, 'odt', 'OpenDocument text', 'application/vnd.oasis.opendocument.text '),
    (10, 1, 'djvu', 'DjVu', 'image/vnd.djvu'),
    (11, 1, 'html', 'HTML', 'text/html'),
    (12, 1, 'htm', 'HTML', 'text/html'),
    (13, 1, 'chm', 'Compiled help', 'application/octet-stream'),
    (14, 1, 'lit', 'Microsoft Reader', 'application/x-ms-reader '),
    (15, 1, 'fb2', 'FictionBook 2', 'application/x-fictionbook+xml'),
    (16, 1, 'docx', 'Word document (OOXML)', 'application/vnd.openxmlformats-officedocument.wordprocessingml.document'),
    (17, 1, 'azw3', 'Kindle Format 8', 'application/x-mobi8-ebook');

INSERT INTO language (id, version_id, code, name) VALUES
    (1, 1, 'cs', 'Czech'),
    (2, 1, 'en', 'English'),
    (3, 1, 'sk', 'Slovak'),
    (4, 1, 'ru', 'Russian');

-- There is no genre 33.
INSERT INTO genre (id, version_id, name) VALUES
    (1, 1, 'Adventure'),
    (2, 1, 'Biography'),
    (3, 1, 'Business/Investing'),
    (4, 1, 'Children''s Books'),
    (5, 1, 'Computers/Internet'),
    (6, 1, 'Cooking/Food'),
    (7, 1, 'Crime/Mystery'),
    (8, 1, 'Essay'),
    (9, 1, 'Fantasy'),
    (10, 1, 'Fiction'),
    (11, 1, 'Health'),
    (12, 1, 'History'),
    (13, 1, 'Horror'),
    (14, 1, 'Humor/Satire'),
    (15, 1, 'Non-Fiction'),
    (16, 1, 'Novels'),
    (17, 1, 'Philosophy'),
    (18, 1, 'Plays'),
    (19, 1, 'Poetry'),
    (20, 1, 'Politics'),
    (21, 1, 'Psychology'),
    (22, 1, 'Religion'),
    (23, 1, 'Romance'),
    (24, 1, 'Science'),
    (25, 1, 'Science Fiction'),
    (26, 1, 'Sexuality'),
    (27, 1, 'Short Fiction'),
    (28, 1, 'Sports'),
    (29, 1, 'Thriller'),
    (30, 1, 'Travel'),
    (31, 1, 'War'),
    (32, 1, 'Western'),
    (34, 1, 'Educational'),
    (35, 1, 'Social Fiction'),
    (36, 1, 'Autobiography'),
    (37, 1, 'Youth''s Books'),
    (38, 1, 'Historical Fiction'),
    (39, 1, 'Military'),
    (40, 1, 'Hobby'),
    (41, 1, 'Mysteries'),
    (42, 1, 'Social Sciences'),
    (43, 1, 'Espionage'),
    (44, 1, 'Post-catastrophic'),
    (45, 1, 'Women''s Books'),
    (46, 1, 'Nature'),
    (47, 1, 'Fairy Tales And Myths'),
    (48, 1, 'Military SF'),
    (49, 1, 'Urban fantasy'),
    (50, 1, 'Comics'),
    (51, 1, 'Space Opera'),
    (52, 1, 'Magazine'),
    (53, 1, 'Action'),
    (54, 1, 'Psychological Fiction'),
    (55, 1, 'Art'),
    (56, 1, 'Mystic'),
    (57, 1, 'Alternative'),
    (58, 1, 'Technology');

INSERT INTO role (id, version_id, name, parent_id) VALUES
    (1, 1, 'guest', NULL),
    (2, 1, 'user', 1),
    (3, 1, 'trusted_user', 2),
    (4, 1, 'superuser', 3),
    (5, 1, 'admin', 4);

-- The password is "admin".
INSERT INTO "user" (id, version_id, user_name, email, password, active, created, modified) VALUES
    (1, 1, 'admin', 'admin@example.com', '$2b$12$Wn3mJqT0cV7bLx5yRkPzHe3thTnL0I5n6O4/gN.uEZwzmu9XvVbc.', true,
     localtimestamp, localtimestamp);

INSERT INTO user_roles (user_id, role_id) VALUES (1, 5);

INSERT INTO synonym (version_id, category, other_name, our_name) VALUES
    (1, 'LNG', 'eng', 'en'),
    (1, 'LNG', 'ces', 'cs'),
    (1, 'LNG', 'slk', 'sk'),
    (1, 'GNR', 'Sci-Fi', 'Science Fiction'),
    (1, 'GNR', 'Humor and Satire', 'Humor/Satire');

INSERT INTO version (version_id, version) VALUES (1, 2);

SELECT setval('format_id_seq', max(id)) FROM format;
SELECT setval('language_id_seq', max(id)) FROM language;
SELECT setval('genre_id_seq', max(id)) FROM genre;
SELECT setval('role_id_seq', max(id)) FROM role;
SELECT setval('user_id_seq', max(id)) FROM "user";
