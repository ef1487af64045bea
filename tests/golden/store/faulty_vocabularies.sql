-- A store as the release before the normal form of labels wrote it (revision 0003, commit d6f5394), by `replaced` and
-- `VocabularyStore.commit`: labels that are the same or show nothing, metadata and a fit with 1e999. sqlite3's .dump.
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
CREATE TABLE model_versions (
	configured VARCHAR(200) NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	version INTEGER NOT NULL, 
	previous INTEGER, 
	CONSTRAINT pk_model_versions PRIMARY KEY (configured, name)
);
CREATE TABLE vocabularies (
	name VARCHAR(64) NOT NULL, 
	latest INTEGER NOT NULL, 
	is_deleted BOOLEAN NOT NULL, 
	CONSTRAINT pk_vocabularies PRIMARY KEY (name)
);
INSERT INTO "vocabularies" VALUES('same-labels',1,0);
INSERT INTO "vocabularies" VALUES('not-finite',2,0);
INSERT INTO "vocabularies" VALUES('unreadable-fit',1,0);
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
INSERT INTO "vocabulary_versions" VALUES('same-labels',1,'{"labels":[{"name":"brushing someone''s hair","label_id":"606b0cd4ce01","synonyms":[],"negatives":[],"threshold":null,"examples":[]},{"name":"brushing someone’s hair","label_id":"7b88832eefd2","synonyms":["walking"],"negatives":[],"threshold":null,"examples":[]},{"name":"salt & pepper","label_id":"7eb08006eb6f","synonyms":[],"negatives":[],"threshold":null,"examples":[]},{"name":"salt &amp; pepper","label_id":"a38b1a837647","synonyms":[],"negatives":[],"threshold":null,"examples":[]},{"name":"walking","label_id":"b79fc5a78565","synonyms":[],"negatives":[],"threshold":null,"examples":[]},{"name":"​","label_id":"fcd8bfcd0c58","synonyms":[],"negatives":[],"threshold":null,"examples":[]},{"name":"ㅤ","label_id":"0f42c70ef103","synonyms":[],"negatives":[],"threshold":null,"examples":[]}],"templates":["a video of {}","a video of  {}"],"phrase_rule":"best","background":["an empty room","salt &#38; pepper"],"acceptance":null,"description":"","metadata":{}}',7,'','','2026-11-25T19:19:02.786+00:00');
INSERT INTO "vocabulary_versions" VALUES('not-finite',1,'{"labels":[{"name":"bowing","label_id":"d596a4b698f4","synonyms":[],"negatives":[],"threshold":null,"examples":[]},{"name":"waving","label_id":"203020a37904","synonyms":[],"negatives":[],"threshold":null,"examples":[]}],"templates":null,"phrase_rule":"best","background":[],"acceptance":null,"description":"","metadata":{"source":{"weights":[0.5,Infinity,-Infinity]},"share":Infinity}}',2,'','','2026-11-25T19:19:02.812+00:00');
INSERT INTO "vocabulary_versions" VALUES('not-finite',2,'{"labels":[{"name":"bowing","label_id":"d596a4b698f4","synonyms":[],"negatives":[],"threshold":null,"examples":[]},{"name":"waving","label_id":"203020a37904","synonyms":[],"negatives":[],"threshold":null,"examples":[]}],"templates":null,"phrase_rule":"best","background":[],"acceptance":null,"description":"","metadata":{"share":0.5}}',2,'','','2026-11-25T19:19:02.829+00:00');
INSERT INTO "vocabulary_versions" VALUES('unreadable-fit',1,'{"labels":[{"name":"bowing","label_id":"3fb51d5a05c0","synonyms":[],"negatives":[],"threshold":null,"examples":[]},{"name":"waving","label_id":"254d55b4eb65","synonyms":[],"negatives":[],"threshold":null,"examples":[]}],"templates":null,"phrase_rule":"best","background":[],"acceptance":{"criterion":"score","threshold":0.5,"temperature":1.0,"bias":0.0,"fitted":{"model":"demo@1","function":"softmax","templates":["{}"],"num_clips":1,"num_crops":1,"vocabulary_version":1,"vocabulary_digest":"x","num_known":1,"num_unknown":1,"false_accept_rate":0.05,"false_accept_interval":[0.0,1.0],"true_accept_rate":null,"accuracy":null,"auroc":Infinity,"fpr_at_95_tpr":null,"calibration_error_before":null,"calibration_error_after":null,"fitted_at":"2026-11-25"}},"description":"","metadata":{}}',2,'','','2026-11-25T19:19:02.852+00:00');
CREATE INDEX ix_vocabulary_clips_sha256 ON vocabulary_clips (sha256);
COMMIT;
