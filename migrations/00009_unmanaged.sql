-- +goose Up

-- What volumes and snapshots were that are not managed any more, so that they can be managed
-- again as what they were. Their thin devices are left in their nodes' pools; a row goes when
-- its thin device is managed again, or is found to be gone.
CREATE TABLE unmanaged (
    id             uuid PRIMARY KEY,               -- of the volume or snapshot that it was
    kind           text NOT NULL CHECK (kind IN ('volume', 'snapshot')),
    volume_id      uuid,                           -- of a snapshot
    host           text REFERENCES nodes (host),   -- null: nothing was ever written
    thin_id        bigint,
    image_id       uuid REFERENCES images (id),    -- without it the thin device means nothing
    size_gib       integer NOT NULL,
    bootable       boolean NOT NULL DEFAULT false,
    image_metadata jsonb NOT NULL DEFAULT '{}',
    created_at     timestamptz NOT NULL DEFAULT now(),
    CHECK ((host IS NULL) = (thin_id IS NULL)),
    UNIQUE (host, thin_id)
);
CREATE INDEX unmanaged_image ON unmanaged (image_id) WHERE image_id IS NOT NULL;

-- A volume that could not be managed has no size.
ALTER TABLE volumes DROP CONSTRAINT volumes_size_gib_check;
ALTER TABLE volumes ADD CONSTRAINT volumes_size_gib_check CHECK (size_gib >= 0);

-- +goose Down
DELETE FROM volumes WHERE size_gib = 0;
ALTER TABLE volumes DROP CONSTRAINT volumes_size_gib_check;
ALTER TABLE volumes ADD CONSTRAINT volumes_size_gib_check CHECK (size_gib > 0);
DROP TABLE unmanaged;
