-- A store as the release before owners of jobs wrote it (revision 0005, commit 53b0b8c): a job with a finished input, by
-- `JobStore.create`, `JobSteps.begin` and `InputQueue`. sqlite3's .dump.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0005');
CREATE TABLE api_keys (
	key_id VARCHAR(12) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	scopes VARCHAR(64) NOT NULL, 
	secret_sha256 VARCHAR(64) NOT NULL, 
	created_at DOUBLE NOT NULL, 
	expires_at DOUBLE, 
	revoked_at DOUBLE, 
	last_used_at DOUBLE, 
	CONSTRAINT pk_api_keys PRIMARY KEY (key_id)
);
CREATE TABLE clips (
	sha256 VARCHAR(64) NOT NULL, 
	num_bytes INTEGER NOT NULL, 
	body BLOB NOT NULL, 
	CONSTRAINT pk_clips PRIMARY KEY (sha256)
);
CREATE TABLE job_events (
	job_id VARCHAR(40) NOT NULL, 
	number INTEGER NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	data TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	CONSTRAINT pk_job_events PRIMARY KEY (job_id, number), 
	CONSTRAINT fk_job_events_jobs FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
INSERT INTO "job_events" VALUES('job_00000000000000000000000000000000',1,'status','{"status":"validating","request_counts":{"total":2,"completed":0,"failed":0}}',1.79567627143632555005e+09);
INSERT INTO "job_events" VALUES('job_00000000000000000000000000000000',2,'status','{"status":"in_progress","request_counts":{"total":2,"completed":0,"failed":0}}',1.79567627146052956584e+09);
INSERT INTO "job_events" VALUES('job_00000000000000000000000000000000',3,'input','{"index":0,"state":"completed","request_counts":{"total":2,"completed":1,"failed":0}}',1.79567627148746180535e+09);
CREATE TABLE job_inputs (
	job_id VARCHAR(40) NOT NULL, 
	number INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	source VARCHAR(8) NOT NULL, 
	place TEXT NOT NULL, 
	num_bytes BIGINT, 
	state VARCHAR(12) NOT NULL, 
	owner VARCHAR(64), 
	lease_expires_at DOUBLE, 
	not_before DOUBLE NOT NULL, 
	attempts INTEGER NOT NULL, 
	progress DOUBLE NOT NULL, 
	result TEXT, 
	problem TEXT, 
	finished_at DOUBLE, 
	CONSTRAINT pk_job_inputs PRIMARY KEY (job_id, number), 
	CONSTRAINT fk_job_inputs_jobs FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
INSERT INTO "job_inputs" VALUES('job_00000000000000000000000000000000',0,'0.mp4','upload','0',100,'completed',NULL,NULL,0.0,1,1.0,'{"results":[]}',NULL,1.79567627148541355134e+09);
INSERT INTO "job_inputs" VALUES('job_00000000000000000000000000000000',1,'1.mp4','upload','1',100,'pending',NULL,NULL,0.0,0,0.0,NULL,NULL,NULL);
CREATE TABLE jobs (
	id VARCHAR(40) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	options TEXT NOT NULL, 
	folder TEXT, 
	storage VARCHAR(64), 
	webhook_url TEXT, 
	idempotency_key VARCHAR(255), 
	content_hash VARCHAR(64), 
	problem TEXT, 
	num_inputs INTEGER NOT NULL, 
	num_completed INTEGER NOT NULL, 
	num_failed INTEGER NOT NULL, 
	num_events INTEGER NOT NULL, 
	created_at DOUBLE NOT NULL, 
	started_at DOUBLE, 
	finished_at DOUBLE, 
	deadline_at DOUBLE NOT NULL, 
	served_at DOUBLE NOT NULL, 
	lease_expires_at DOUBLE, 
	CONSTRAINT pk_jobs PRIMARY KEY (id)
);
INSERT INTO "jobs" VALUES('job_00000000000000000000000000000000','classify','in_progress','{"top_k":2}',NULL,'here',NULL,'key','a',NULL,2,1,0,3,1.7956762714280762672e+09,1.79567627145444846156e+09,NULL,1.8956762714280762672e+09,1.79567627146381592747e+09,NULL);
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
CREATE TABLE webhook_attempts (
	job_id VARCHAR(40) NOT NULL, 
	number INTEGER NOT NULL, 
	created_at DOUBLE NOT NULL, 
	status INTEGER, 
	fault TEXT, 
	duration_ms DOUBLE NOT NULL, 
	CONSTRAINT pk_webhook_attempts PRIMARY KEY (job_id, number), 
	CONSTRAINT fk_webhook_attempts_webhook_deliveries FOREIGN KEY(job_id) REFERENCES webhook_deliveries (job_id) ON DELETE CASCADE
);
CREATE TABLE webhook_deliveries (
	job_id VARCHAR(40) NOT NULL, 
	url TEXT NOT NULL, 
	body TEXT NOT NULL, 
	state VARCHAR(12) NOT NULL, 
	num_attempts INTEGER NOT NULL, 
	next_at DOUBLE NOT NULL, 
	CONSTRAINT pk_webhook_deliveries PRIMARY KEY (job_id), 
	CONSTRAINT fk_webhook_deliveries_jobs FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
CREATE INDEX ix_vocabulary_clips_sha256 ON vocabulary_clips (sha256);
CREATE INDEX ix_jobs_status ON jobs (status);
CREATE INDEX ix_jobs_created_at ON jobs (created_at);
CREATE UNIQUE INDEX ix_jobs_idempotency_key ON jobs (idempotency_key);
CREATE INDEX ix_job_inputs_state ON job_inputs (state, job_id, number);
CREATE INDEX ix_webhook_deliveries_state ON webhook_deliveries (state, next_at);
CREATE INDEX ix_api_keys_name ON api_keys (name);
COMMIT;
