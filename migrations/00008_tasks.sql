-- +goose Up

-- Long data work on a node: see db/model/task.go. A row stays until its node has removed
-- what the work left there.
CREATE TABLE tasks (
    id           uuid PRIMARY KEY,
    kind         text NOT NULL,
    status       text NOT NULL CHECK (status IN ('queued', 'running', 'succeeded', 'failed')),
    host         text NOT NULL REFERENCES nodes (host),
    -- What it belongs to; the row may be gone by the end.
    volume_id    uuid NOT NULL,
    snapshot_id  uuid,
    -- What it works on: a frozen copy of the volume, or the volume itself.
    access       text NOT NULL CHECK (access IN ('copy', 'volume')),
    image_id     uuid REFERENCES images (id), -- below the copy; null: zeros
    bytes        bigint NOT NULL CHECK (bytes > 0),
    thin_id      bigint,                      -- of the copy; null: nothing was ever written
    source_thin  bigint,
    materialized boolean NOT NULL DEFAULT false,
    args         jsonb NOT NULL DEFAULT '{}',
    result       jsonb NOT NULL DEFAULT '{}',
    phase        text NOT NULL DEFAULT '',
    done         bigint NOT NULL DEFAULT 0,
    total        bigint NOT NULL DEFAULT 0,
    error        text,
    project_id   text NOT NULL,
    user_id      text NOT NULL,
    request_id   text NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CHECK ((thin_id IS NULL) = (source_thin IS NULL)),
    CHECK (access = 'copy' OR thin_id IS NULL),
    UNIQUE (host, thin_id)
);
CREATE INDEX tasks_volume ON tasks (volume_id);
CREATE INDEX tasks_image ON tasks (image_id) WHERE image_id IS NOT NULL;
CREATE INDEX tasks_open ON tasks (created_at) WHERE status IN ('queued', 'running');

-- +goose Down
DROP TABLE tasks;
