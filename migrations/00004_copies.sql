-- +goose Up

-- A thin device that begins as a copy of another in the same pool: a volume made from a
-- snapshot or volume, or reverted to one. Null: it begins empty.
ALTER TABLE volumes ADD COLUMN source_thin bigint;

-- A snapshot of a volume that nothing was ever written to has no thin device: what it
-- holds is the volume's image, or zeros.
ALTER TABLE snapshots
    ADD COLUMN home           text REFERENCES nodes (host),
    ADD COLUMN source_thin    bigint,
    ADD COLUMN materialized   boolean NOT NULL DEFAULT false,
    ADD COLUMN image_id       uuid REFERENCES images (id),
    ADD COLUMN volume_type_id uuid REFERENCES volume_types (id),
    ADD COLUMN bootable       boolean NOT NULL DEFAULT false,
    ADD COLUMN image_metadata jsonb NOT NULL DEFAULT '{}',
    ADD CHECK ((home IS NULL) = (thin_id IS NULL)),
    ADD UNIQUE (home, thin_id);
CREATE INDEX snapshots_home ON snapshots (home) WHERE home IS NOT NULL;
CREATE INDEX snapshots_created ON snapshots (created_at DESC, id DESC);
CREATE INDEX snapshots_project_name ON snapshots (project_id, name, id);
CREATE INDEX snapshots_project_status ON snapshots (project_id, status, created_at DESC, id DESC);
CREATE INDEX snapshots_group ON snapshots (group_snapshot_id) WHERE group_snapshot_id IS NOT NULL;
CREATE INDEX snapshots_type ON snapshots (volume_type_id) WHERE volume_type_id IS NOT NULL;
CREATE INDEX snapshots_image ON snapshots (image_id) WHERE image_id IS NOT NULL;
CREATE INDEX volumes_snapshot ON volumes (snapshot_id) WHERE snapshot_id IS NOT NULL;

-- Thin devices whose data nobody needs any more, until their node has deleted them.
CREATE TABLE dropped_thins (
    id      uuid PRIMARY KEY,
    host    text NOT NULL REFERENCES nodes (host),
    thin_id bigint NOT NULL,
    UNIQUE (host, thin_id)
);

-- +goose Down
DROP TABLE dropped_thins;
DROP INDEX snapshots_created, snapshots_project_name, snapshots_project_status, snapshots_group, snapshots_type, snapshots_image, volumes_snapshot;
ALTER TABLE snapshots DROP COLUMN home, DROP COLUMN source_thin, DROP COLUMN materialized, DROP COLUMN image_id,
    DROP COLUMN volume_type_id, DROP COLUMN bootable, DROP COLUMN image_metadata;
ALTER TABLE volumes DROP COLUMN source_thin;
