-- +goose Up

-- What counts against the projects' quotas, as a list of changes: a project has the sum of
-- its rows. Triggers write it, so it holds whoever changes volumes and snapshots. To add a
-- row takes no lock that another who adds one would wait for; who checks a quota holds the
-- project's lock anyway, and now and then puts the rows together.
--
-- gib is that of volumes and snapshots. A table of backups or groups needs triggers like
-- those of snapshots, for its own columns here.
CREATE TABLE usage_changes (
    project_id     text NOT NULL,
    volume_type_id uuid,
    volumes        bigint NOT NULL DEFAULT 0,
    snapshots      bigint NOT NULL DEFAULT 0,
    gib            bigint NOT NULL DEFAULT 0,
    backups        bigint NOT NULL DEFAULT 0,
    backup_gib     bigint NOT NULL DEFAULT 0,
    groups         bigint NOT NULL DEFAULT 0
);
CREATE INDEX usage_changes_project ON usage_changes (project_id);

-- +goose StatementBegin
CREATE FUNCTION count_usage() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    sign bigint := TG_ARGV[0];
BEGIN
    INSERT INTO usage_changes (project_id, volume_type_id, volumes, snapshots, gib)
    SELECT project_id, volume_type_id, CASE TG_TABLE_NAME WHEN 'volumes' THEN sign * count(*) ELSE 0 END,
        CASE TG_TABLE_NAME WHEN 'snapshots' THEN sign * count(*) ELSE 0 END, sign * sum(size_gib)
    FROM changed WHERE consumes_quota GROUP BY project_id, volume_type_id;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION move_usage() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    volume bigint := CASE TG_TABLE_NAME WHEN 'volumes' THEN 1 ELSE 0 END;
BEGIN
    IF OLD.consumes_quota THEN
        INSERT INTO usage_changes (project_id, volume_type_id, volumes, snapshots, gib)
            VALUES (OLD.project_id, OLD.volume_type_id, -volume, volume - 1, -OLD.size_gib);
    END IF;
    IF NEW.consumes_quota THEN
        INSERT INTO usage_changes (project_id, volume_type_id, volumes, snapshots, gib)
            VALUES (NEW.project_id, NEW.volume_type_id, volume, 1 - volume, NEW.size_gib);
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

CREATE TRIGGER usage_insert AFTER INSERT ON volumes REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION count_usage('1');
CREATE TRIGGER usage_delete AFTER DELETE ON volumes REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION count_usage('-1');
CREATE TRIGGER usage_update AFTER UPDATE OF project_id, volume_type_id, size_gib, consumes_quota ON volumes
    FOR EACH ROW WHEN ((OLD.project_id, OLD.volume_type_id, OLD.size_gib, OLD.consumes_quota)
        IS DISTINCT FROM (NEW.project_id, NEW.volume_type_id, NEW.size_gib, NEW.consumes_quota))
    EXECUTE FUNCTION move_usage();
CREATE TRIGGER usage_insert AFTER INSERT ON snapshots REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION count_usage('1');
CREATE TRIGGER usage_delete AFTER DELETE ON snapshots REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION count_usage('-1');
CREATE TRIGGER usage_update AFTER UPDATE OF project_id, volume_type_id, size_gib, consumes_quota ON snapshots
    FOR EACH ROW WHEN ((OLD.project_id, OLD.volume_type_id, OLD.size_gib, OLD.consumes_quota)
        IS DISTINCT FROM (NEW.project_id, NEW.volume_type_id, NEW.size_gib, NEW.consumes_quota))
    EXECUTE FUNCTION move_usage();

INSERT INTO usage_changes (project_id, volume_type_id, volumes, snapshots, gib)
SELECT project_id, volume_type_id, count(*) FILTER (WHERE volume), count(*) FILTER (WHERE NOT volume), sum(size_gib) FROM (
    SELECT project_id, volume_type_id, size_gib, true AS volume FROM volumes WHERE consumes_quota
    UNION ALL SELECT project_id, volume_type_id, size_gib, false FROM snapshots WHERE consumes_quota) AS all_of_them
GROUP BY project_id, volume_type_id;

-- What these were made for is done by the table above.
DROP TABLE quota_usages, reservations;

-- +goose Down
CREATE TABLE quota_usages (
    project_id text NOT NULL,
    resource   text NOT NULL,
    in_use     bigint NOT NULL DEFAULT 0 CHECK (in_use >= 0),
    reserved   bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    PRIMARY KEY (project_id, resource)
);
CREATE TABLE reservations (
    id         uuid PRIMARY KEY,
    project_id text NOT NULL,
    resource   text NOT NULL,
    delta      bigint NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX reservations_expiry ON reservations (expires_at);
DROP TRIGGER usage_insert ON volumes;
DROP TRIGGER usage_delete ON volumes;
DROP TRIGGER usage_update ON volumes;
DROP TRIGGER usage_insert ON snapshots;
DROP TRIGGER usage_delete ON snapshots;
DROP TRIGGER usage_update ON snapshots;
DROP FUNCTION count_usage, move_usage;
DROP TABLE usage_changes;
