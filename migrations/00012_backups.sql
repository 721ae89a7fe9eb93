-- +goose Up

-- What volumes held, kept in a store that nodes reach: see db/model/backup.go.
CREATE TABLE backups (
    id                uuid PRIMARY KEY,
    project_id        text NOT NULL,
    user_id           text NOT NULL,
    name              text,
    description       text,
    size_gib          integer NOT NULL CHECK (size_gib >= 0),
    status            text NOT NULL,
    -- The volume, its snapshot and the parent need not be there: they may have been deleted
    -- since, or never have been here if the backup was imported.
    volume_id         uuid NOT NULL,
    snapshot_id       uuid,
    parent_id         uuid,
    container         text,
    availability_zone text,
    object_count      integer NOT NULL DEFAULT 0,
    fail_reason       text,
    restore_volume_id uuid,
    metadata          jsonb NOT NULL DEFAULT '{}',
    source            jsonb NOT NULL DEFAULT '{}', -- what a volume made from it gets of the one it was taken of
    data_timestamp    timestamptz NOT NULL DEFAULT now(),
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    CHECK (parent_id <> id)
);
CREATE INDEX backups_project_created ON backups (project_id, created_at DESC, id DESC);
CREATE INDEX backups_created ON backups (created_at DESC, id DESC);
CREATE INDEX backups_project_name ON backups (project_id, name, id);
CREATE INDEX backups_project_status ON backups (project_id, status, created_at DESC, id DESC);
CREATE INDEX backups_volume ON backups (volume_id);
CREATE INDEX backups_parent ON backups (parent_id) WHERE parent_id IS NOT NULL;

-- +goose StatementBegin
CREATE FUNCTION count_backups() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    sign bigint := TG_ARGV[0];
BEGIN
    INSERT INTO usage_changes (project_id, backups, backup_gib)
    SELECT project_id, sign * count(*), sign * sum(size_gib) FROM changed GROUP BY project_id;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER usage_insert AFTER INSERT ON backups REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION count_backups('1');
CREATE TRIGGER usage_delete AFTER DELETE ON backups REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION count_backups('-1');

-- A task may need no device: the deletion of a backup.
ALTER TABLE tasks DROP CONSTRAINT tasks_access_check, ADD CONSTRAINT tasks_access_check CHECK (access IN ('copy', 'volume', 'fill', 'none'));
CREATE INDEX tasks_backup ON tasks ((args ->> 'backup_id')) WHERE args ->> 'backup_id' IS NOT NULL;

-- The node reaches the store of backups.
ALTER TABLE nodes ADD COLUMN backups boolean NOT NULL DEFAULT false;

-- +goose Down
ALTER TABLE nodes DROP COLUMN backups;
DROP INDEX tasks_backup;
DELETE FROM tasks WHERE access = 'none';
ALTER TABLE tasks DROP CONSTRAINT tasks_access_check, ADD CONSTRAINT tasks_access_check CHECK (access IN ('copy', 'volume', 'fill'));
DELETE FROM backups;
DROP TABLE backups;
DROP FUNCTION count_backups;
