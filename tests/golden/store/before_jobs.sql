-- A store as the release before jobs wrote it (revision 0003, commit fd75229), by `VocabularyStore.commit` and
-- `RouteStore.save`. sqlite3's .dump.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0003');
CREATE TABLE clips (
	sha256 VARCHAR(64) NOT NULL, 
	num_bytes INTEGER NOT NULL, 
	body BLOB NOT NULL, 
	CONSTRAINT pk_clips PRIMARY KEY (sha256)
);
CREATE TABLE model_aliases (
	configured VARCHAR(200) NOT NULL, 
	alias VARCHAR(200) NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	previous VARCHAR(200), 
	CONSTRAINT pk_model_aliases PRIMARY KEY (configured, alias)
);
INSERT INTO "model_aliases" VALUES('demo','default','demo',NULL);
CREATE TABLE model_versions (
	configured VARCHAR(200) NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	version INTEGER NOT NULL, 
	previous INTEGER, 
	CONSTRAINT pk_model_versions PRIMARY KEY (configured, name)
);
INSERT INTO "model_versions" VALUES('demo','demo',2,1);
CREATE TABLE vocabularies (
	name VARCHAR(64) NOT NULL, 
	latest INTEGER NOT NULL, 
	is_deleted BOOLEAN NOT NULL, 
	CONSTRAINT pk_vocabularies PRIMARY KEY (name)
);
INSERT INTO "vocabularies" VALUES('pets',1,0);
CREATE TABLE vocabulary_clips (
	name VARCHAR(64) NOT NULL, 
	version INTEGER NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_vocabulary_clips PRIMARY KEY (name, version, sha256), 
	CONSTRAINT fk_vocabulary_clips_vocabulary_versions FOREIGN KEY(name, version) REFERENCES vocabulary_versions (name, version) ON DELETE CASCADE, 
	CONSTRAINT fk_vocabulary_clips_clips FOREIGN KEY(sha256) REFERENCES clips (sha256)
);
CREATE TABLE vocabulary_versions (
	name VARCHAR(64) NOT NULL, 
	version INTEGER NOT NULL, 
	document TEXT NOT NULL, 
	num_labels INTEGER NOT NULL, 
	author VARCHAR(200) NOT NULL, 
	note TEXT NOT NULL, 
	created_at VARCHAR(40) NOT NULL, 
	CONSTRAINT pk_vocabulary_versions PRIMARY KEY (name, version), 
	CONSTRAINT fk_vocabulary_versions_vocabularies FOREIGN KEY(name) REFERENCES vocabularies (name)
);
INSERT INTO "vocabulary_versions" VALUES('pets',1,'{"labels":[{"name":"a cat","label_id":"a1","synonyms":[],"negatives":[],"threshold":null,"examples":[]},{"name":"ein Hündchen","label_id":"b2","synonyms":["puppy"],"negatives":[],"threshold":null,"examples":[]}],"templates":null,"phrase_rule":"best","background":[],"acceptance":null,"description":"","metadata":{}}',2,'','','2026-11-26T06:05:36.109+00:00');
CREATE INDEX ix_vocabulary_clips_sha256 ON vocabulary_clips (sha256);
COMMIT;
