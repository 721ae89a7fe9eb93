-- +goose Up

CREATE TABLE group_types (
    id          uuid PRIMARY KEY,
    name        text NOT NULL UNIQUE,
    description text,
    is_public   boolean NOT NULL DEFAULT true,
    group_specs jsonb NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz
);
-- That of consistency groups, which every installation of Cinder has.
INSERT INTO group_types (id, name, description, group_specs) VALUES (gen_random_uuid(), 'default_cgsnapshot_type',
    'Default group type for migrating cgsnapshot', '{"consistent_group_snapshot_enabled": "<is> True"}');

-- group_snapshot_id and source_group_id tell what a group was made from; that may be gone.
CREATE TABLE volume_groups (
    id                uuid PRIMARY KEY,
    project_id        text NOT NULL,
    user_id           text NOT NULL,
    name              text,
    description       text,
    status            text NOT NULL,
    availability_zone text,
    group_type_id     uuid NOT NULL REFERENCES group_types (id),
    group_snapshot_id uuid,
    source_group_id   uuid,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz
);
CREATE INDEX volume_groups_project_created ON volume_groups (project_id, created_at DESC, id DESC);
CREATE INDEX volume_groups_created ON volume_groups (created_at DESC, id DESC);
CREATE INDEX volume_groups_type ON volume_groups (group_type_id);
CREATE INDEX volume_groups_snapshot ON volume_groups (group_snapshot_id) WHERE group_snapshot_id IS NOT NULL;
CREATE INDEX volume_groups_source ON volume_groups (source_group_id) WHERE source_group_id IS NOT NULL;

-- What types of volumes may be in a group.
CREATE TABLE group_volume_types (
    group_id       uuid NOT NULL REFERENCES volume_groups (id) ON DELETE CASCADE,
    volume_type_id uuid NOT NULL REFERENCES volume_types (id),
    position       integer NOT NULL,
    PRIMARY KEY (group_id, volume_type_id)
);
CREATE INDEX group_volume_types_type ON group_volume_types (volume_type_id);

CREATE TABLE group_snapshots (
    id            uuid PRIMARY KEY,
    group_id      uuid NOT NULL REFERENCES volume_groups (id),
    group_type_id uuid NOT NULL REFERENCES group_types (id),
    project_id    text NOT NULL,
    user_id       text NOT NULL,
    name          text,
    description   text,
    status        text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz
);
CREATE INDEX group_snapshots_project_created ON group_snapshots (project_id, created_at DESC, id DESC);
CREATE INDEX group_snapshots_created ON group_snapshots (created_at DESC, id DESC);
CREATE INDEX group_snapshots_group ON group_snapshots (group_id);
CREATE INDEX group_snapshots_type ON group_snapshots (group_type_id);

ALTER TABLE volumes ADD FOREIGN KEY (group_id) REFERENCES volume_groups (id);
ALTER TABLE snapshots ADD FOREIGN KEY (group_snapshot_id) REFERENCES group_snapshots (id);

-- Copies with the same are made at one moment, all or none.
ALTER TABLE volumes ADD COLUMN together uuid;
ALTER TABLE snapshots ADD COLUMN together uuid;

-- +goose StatementBegin
CREATE FUNCTION count_groups() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO usage_changes (project_id, groups) SELECT project_id, TG_ARGV[0]::bigint * count(*) FROM changed GROUP BY project_id;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER usage_insert AFTER INSERT ON volume_groups REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION count_groups('1');
CREATE TRIGGER usage_delete AFTER DELETE ON volume_groups REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION count_groups('-1');

-- +goose Down
ALTER TABLE volumes DROP COLUMN together;
ALTER TABLE snapshots DROP COLUMN together;
ALTER TABLE volumes DROP CONSTRAINT volumes_group_id_fkey;
ALTER TABLE snapshots DROP CONSTRAINT snapshots_group_snapshot_id_fkey;
UPDATE volumes SET group_id = NULL WHERE group_id IS NOT NULL;
UPDATE snapshots SET group_snapshot_id = NULL WHERE group_snapshot_id IS NOT NULL;
DROP TABLE group_snapshots, group_volume_types, volume_groups, group_types;
DROP FUNCTION count_groups;
UPDATE usage_changes SET groups = 0 WHERE groups <> 0;
