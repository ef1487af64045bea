BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0007');
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
INSERT INTO "api_keys" VALUES('bef6cd23b43c','camera-1','infer','a958741fcd14a22cabf512464bcd126dac029ad720cb943f8c5a82819af7cdcb',1.79569017715598082535e+09,NULL,NULL,1764150000.5);
INSERT INTO "api_keys" VALUES('3e96e38718eb','old','edit infer','2c5a41314eb9058398e560952ff1439fda5e996e1276af0fd173573369099ec7',1.79569017718976688385e+09,1.7956937771897668838e+09,1.7956901772007753849e+09,NULL);
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
	lease_expires_at DOUBLE, key_id VARCHAR(12) DEFAULT '' NOT NULL, 
	CONSTRAINT pk_jobs PRIMARY KEY (id)
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
CREATE TABLE stored_features (
	video_id VARCHAR(32) NOT NULL, 
	part INTEGER NOT NULL, 
	num_windows INTEGER NOT NULL, 
	windows BLOB NOT NULL, 
	video_features BLOB NOT NULL, 
	prototype_features BLOB, 
	patch_features BLOB, 
	CONSTRAINT pk_stored_features PRIMARY KEY (video_id, part), 
	CONSTRAINT fk_stored_features_stored_videos FOREIGN KEY(video_id) REFERENCES stored_videos (video_id) ON DELETE CASCADE
);
CREATE TABLE stored_video_changes (
	one INTEGER NOT NULL, 
	generation BIGINT NOT NULL, 
	CONSTRAINT pk_stored_video_changes PRIMARY KEY (one)
);
INSERT INTO "stored_video_changes" VALUES(1,0);
CREATE TABLE stored_video_tags (
	video_id VARCHAR(32) NOT NULL, 
	tag VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_stored_video_tags PRIMARY KEY (video_id, tag), 
	CONSTRAINT fk_stored_video_tags_stored_videos FOREIGN KEY(video_id) REFERENCES stored_videos (video_id) ON DELETE CASCADE
);
CREATE TABLE stored_videos (
	video_id VARCHAR(32) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	model_name VARCHAR(200) NOT NULL, 
	model_version INTEGER NOT NULL, 
	model_digest VARCHAR(64) NOT NULL, 
	key_id VARCHAR(12), 
	num_windows INTEGER NOT NULL, 
	num_bytes BIGINT NOT NULL, 
	document TEXT NOT NULL, 
	created_at VARCHAR(40) NOT NULL, 
	expires_at VARCHAR(40), 
	is_complete BOOLEAN NOT NULL, 
	CONSTRAINT pk_stored_videos PRIMARY KEY (video_id)
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
CREATE INDEX ix_job_inputs_state ON job_inputs (state, job_id, number);
CREATE INDEX ix_webhook_deliveries_state ON webhook_deliveries (state, next_at);
CREATE INDEX ix_api_keys_name ON api_keys (name);
CREATE INDEX ix_stored_videos_key_id ON stored_videos (key_id);
CREATE INDEX ix_stored_videos_created_at ON stored_videos (created_at);
CREATE INDEX ix_stored_videos_expires_at ON stored_videos (expires_at);
CREATE INDEX ix_stored_video_tags_tag ON stored_video_tags (tag);
CREATE UNIQUE INDEX ix_jobs_key_id ON jobs (key_id, idempotency_key);
COMMIT;
