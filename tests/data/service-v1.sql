-- The service's database as version 1 of its tables had it. Never changed: it must stay readable.
BEGIN TRANSACTION;
CREATE TABLE schema_version (
	version INTEGER NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "schema_version" VALUES(1);
CREATE TABLE submissions (
	run VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	submitted DOUBLE NOT NULL, 
	submitter VARCHAR NOT NULL, 
	wanted VARCHAR NOT NULL, 
	attempt INTEGER NOT NULL, 
	started BOOLEAN NOT NULL, 
	deaths INTEGER NOT NULL, 
	progress INTEGER NOT NULL, 
	options JSON NOT NULL, 
	PRIMARY KEY (run)
);
INSERT INTO "submissions" VALUES('small-1','search',1700000000.25,'somebody','driven',2,1,1,7,'{"evaluations": "+50"}');
CREATE TABLE tasks (
	task VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	"of" VARCHAR NOT NULL, 
	submitted DOUBLE NOT NULL, 
	status VARCHAR NOT NULL, 
	reason TEXT NOT NULL, 
	request JSON NOT NULL, 
	result JSON, 
	PRIMARY KEY (task)
);
INSERT INTO "tasks" VALUES('e1','export','small-1',1700000000.25,'finished','','{"select": "latency_ms<=1"}','{"parity": 1e-07}');
COMMIT;
