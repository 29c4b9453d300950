-- A run's database as version 1 of its tables had it. Never changed: runs of that time must stay readable.
BEGIN TRANSACTION;
CREATE TABLE asks (
	step INTEGER NOT NULL, 
	architectures JSON NOT NULL, 
	time DOUBLE NOT NULL, 
	PRIMARY KEY (step)
);
INSERT INTO "asks" VALUES(0,'["1-x-1"]',1700000000.25);
CREATE TABLE events (
	id INTEGER NOT NULL, 
	kind VARCHAR NOT NULL, 
	detail JSON NOT NULL, 
	time DOUBLE NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "events" VALUES(1,'retry','{"n": 1}',1700000000.25);
CREATE TABLE fits (
	id INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	objective VARCHAR NOT NULL, 
	quality JSON NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (step, objective)
);
INSERT INTO "fits" VALUES(1,0,'accuracy','{"mape": 0.1}');
CREATE TABLE info (
	name VARCHAR NOT NULL, 
	value JSON NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "info" VALUES('name','"filled"');
INSERT INTO "info" VALUES('seed','0');
INSERT INTO "info" VALUES('conditions','{}');
INSERT INTO "info" VALUES('space','[{"name": "width", "options": [8, 16], "requires": null}]');
INSERT INTO "info" VALUES('objectives','["accuracy", "macs"]');
INSERT INTO "info" VALUES('constraints','[]');
INSERT INTO "info" VALUES('profiles','[]');
INSERT INTO "info" VALUES('precisions','["fp32"]');
INSERT INTO "info" VALUES('smallest','"0"');
INSERT INTO "info" VALUES('largest','"1"');
INSERT INTO "info" VALUES('evaluations','30');
INSERT INTO "info" VALUES('minutes','null');
INSERT INTO "info" VALUES('plateau','null');
INSERT INTO "info" VALUES('plateau_from','0');
INSERT INTO "info" VALUES('algorithm','""');
INSERT INTO "info" VALUES('sources','[]');
INSERT INTO "info" VALUES('machines','{}');
INSERT INTO "info" VALUES('learnt','[]');
INSERT INTO "info" VALUES('kind','"search"');
INSERT INTO "info" VALUES('epoch','2');
CREATE TABLE lease (
	id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	pid INTEGER NOT NULL, 
	host VARCHAR NOT NULL, 
	time DOUBLE NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "lease" VALUES(1,1,4711,'some-host',1700000000.25);
CREATE TABLE measurements (
	id INTEGER NOT NULL, 
	architecture VARCHAR NOT NULL, 
	metric VARCHAR NOT NULL, 
	profile VARCHAR NOT NULL, 
	fidelity VARCHAR NOT NULL, 
	precision VARCHAR NOT NULL, 
	attempt INTEGER NOT NULL, 
	status VARCHAR NOT NULL, 
	value DOUBLE, 
	error DOUBLE, 
	weights VARCHAR NOT NULL, 
	data VARCHAR NOT NULL, 
	protocol VARCHAR NOT NULL, 
	environment JSON NOT NULL, 
	detail JSON NOT NULL, 
	seconds DOUBLE NOT NULL, 
	message TEXT NOT NULL, 
	time DOUBLE NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (architecture, metric, profile, fidelity, precision, attempt)
);
INSERT INTO "measurements" VALUES(1,'1-x-1','latency_ms','cpu-1-thread','search','fp32',0,'noisy',1.5,0.01,'w1','d1','interleaved-floor/v1','{"cpu": "x", "cores": 2}','{"p50_ms": 1.75, "rounds": [5, 5]}',0.125,'',1700000000.25);
CREATE TABLE samples (
	measurement INTEGER NOT NULL, 
	samples BLOB NOT NULL, 
	PRIMARY KEY (measurement), 
	FOREIGN KEY(measurement) REFERENCES measurements (id)
);
INSERT INTO "samples" VALUES(1,X'726177');
CREATE TABLE schema_version (
	version INTEGER NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "schema_version" VALUES(1);
CREATE TABLE status (
	id INTEGER NOT NULL, 
	status VARCHAR NOT NULL, 
	reason TEXT NOT NULL, 
	time DOUBLE NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "status" VALUES(1,'running','started',1700000000.25);
COMMIT;
