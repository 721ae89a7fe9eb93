-- +goose Up

CREATE TABLE nodes (
    host              text PRIMARY KEY,
    address           text NOT NULL DEFAULT '',
    initiator         text NOT NULL DEFAULT '',
    origin            boolean NOT NULL DEFAULT false,
    compute           boolean NOT NULL DEFAULT true,
    availability_zone text NOT NULL DEFAULT 'nova',
    rack              text NOT NULL DEFAULT '',
    enabled           boolean NOT NULL DEFAULT true,
    disabled_reason   text,
    frozen            boolean NOT NULL DEFAULT false,
    alive             boolean NOT NULL DEFAULT false,
    last_seen         timestamptz,
    boot_id           text NOT NULL DEFAULT '',
    version           text NOT NULL DEFAULT '',
    generation        bigint NOT NULL DEFAULT 1,
    applied           bigint NOT NULL DEFAULT 0,
    pool_uuid         text NOT NULL DEFAULT '',
    pool_total        bigint NOT NULL DEFAULT 0,
    pool_free         bigint NOT NULL DEFAULT 0,
    pool_state        text NOT NULL DEFAULT '',
    image_free        bigint NOT NULL DEFAULT 0,
    cache_driver      text NOT NULL DEFAULT '',
    cache_reason      text NOT NULL DEFAULT '',
    target_helper     text NOT NULL DEFAULT '',
    problems          jsonb,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50); -- written by every heartbeat, no indexed column among them

-- Next free thin number of each node's pool (24 bits). Not a column of nodes: whoever
-- takes numbers holds the row until the end of its transaction, and must not hold up
-- heartbeats or others that make the node's generation grow.
CREATE TABLE thin_numbers (
    host text PRIMARY KEY REFERENCES nodes (host) ON DELETE CASCADE,
    next bigint NOT NULL DEFAULT 1 CHECK (next BETWEEN 1 AND 16777216)
);

CREATE TABLE qos_specs (
    id         uuid PRIMARY KEY,
    name       text NOT NULL UNIQUE,
    consumer   text NOT NULL DEFAULT 'back-end',
    specs      jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE volume_types (
    id           uuid PRIMARY KEY,
    name         text NOT NULL UNIQUE,
    description  text,
    is_public    boolean NOT NULL DEFAULT true,
    extra_specs  jsonb NOT NULL DEFAULT '{}',
    qos_specs_id uuid REFERENCES qos_specs (id),
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz
);

CREATE TABLE volume_type_access (
    volume_type_id uuid NOT NULL REFERENCES volume_types (id) ON DELETE CASCADE,
    project_id     text NOT NULL,
    PRIMARY KEY (volume_type_id, project_id)
);

CREATE TABLE images (
    id               uuid PRIMARY KEY,
    name             text NOT NULL DEFAULT '',
    disk_format      text NOT NULL,
    container_format text NOT NULL DEFAULT 'bare',
    size_bytes       bigint NOT NULL DEFAULT -1,
    checksum         text NOT NULL DEFAULT '',
    hash_algo        text NOT NULL DEFAULT '',
    hash_value       text NOT NULL DEFAULT '',
    min_disk_gib     integer NOT NULL DEFAULT 0,
    min_ram_mib      integer NOT NULL DEFAULT 0,
    properties       jsonb NOT NULL DEFAULT '{}',
    status           text NOT NULL CHECK (status IN ('queued', 'importing', 'active', 'error', 'deleting')),
    virtual_bytes    bigint NOT NULL DEFAULT 0,
    device_bytes     bigint NOT NULL DEFAULT 0 CHECK (device_bytes % 4096 = 0),
    degree           integer CHECK (degree >= 1),
    phase            text NOT NULL DEFAULT '',
    done             bigint NOT NULL DEFAULT 0,
    total            bigint NOT NULL DEFAULT 0,
    error            text,
    attempts         integer NOT NULL DEFAULT 0,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE tree_members (
    image_id        uuid NOT NULL REFERENCES images (id),
    host            text NOT NULL REFERENCES nodes (host),
    role            text NOT NULL CHECK (role IN ('root', 'relay')),
    state           text NOT NULL CHECK (state IN ('joining', 'active', 'path-lost', 'draining', 'leaving')),
    parent          text,
    fallback        text,
    depth           integer NOT NULL DEFAULT 0,
    children        integer NOT NULL DEFAULT 0 CHECK (children >= 0),
    pinned          boolean NOT NULL DEFAULT false,
    secret          text NOT NULL DEFAULT '',
    thin_base       bigint NOT NULL DEFAULT 0,
    cache_made      boolean NOT NULL DEFAULT false,
    reason          text NOT NULL DEFAULT '',
    observed_parent text NOT NULL DEFAULT '',
    upstream_bytes  bigint NOT NULL DEFAULT 0,
    read_bytes      bigint NOT NULL DEFAULT 0,
    served_bytes    bigint NOT NULL DEFAULT 0,
    cache_hits      bigint NOT NULL DEFAULT 0,
    cache_misses    bigint NOT NULL DEFAULT 0,
    error           text NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (image_id, host),
    FOREIGN KEY (image_id, parent) REFERENCES tree_members (image_id, host) DEFERRABLE INITIALLY DEFERRED,
    CHECK ((role = 'root') = (parent IS NULL)),
    CHECK (parent <> host)
) WITH (fillfactor = 70); -- counters are written by every heartbeat
CREATE INDEX tree_members_host ON tree_members (host);
CREATE INDEX tree_members_parent ON tree_members (parent, image_id);
CREATE INDEX tree_members_fallback ON tree_members (fallback, image_id);
CREATE INDEX tree_members_observed ON tree_members (observed_parent);
-- The frontier: where a new member may be put, shallowest first.
CREATE INDEX tree_members_frontier ON tree_members (image_id, depth, children, host)
    WHERE state IN ('joining', 'active');

CREATE TABLE volumes (
    id                uuid PRIMARY KEY,
    project_id        text NOT NULL,
    user_id           text NOT NULL,
    name              text,
    description       text,
    size_gib          integer NOT NULL CHECK (size_gib > 0),
    status            text NOT NULL,
    previous_status   text,
    attach_status     text NOT NULL DEFAULT 'detached',
    migration_status  text,
    availability_zone text NOT NULL DEFAULT 'nova',
    volume_type_id    uuid REFERENCES volume_types (id),
    bootable          boolean NOT NULL DEFAULT false,
    multiattach       boolean NOT NULL DEFAULT false,
    readonly          boolean NOT NULL DEFAULT false,
    consumes_quota    boolean NOT NULL DEFAULT true,
    image_id          uuid REFERENCES images (id),
    snapshot_id       uuid,
    source_volid      uuid,
    group_id          uuid,
    encryption_key_id uuid,
    metadata          jsonb NOT NULL DEFAULT '{}',
    admin_metadata    jsonb NOT NULL DEFAULT '{}',
    image_metadata    jsonb NOT NULL DEFAULT '{}',
    home              text REFERENCES nodes (host),
    thin_id           bigint,
    materialized      boolean NOT NULL DEFAULT false,
    error             text,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz,
    launched_at       timestamptz,
    CHECK ((home IS NULL) = (thin_id IS NULL)),
    UNIQUE (home, thin_id)
);
-- One per way a list is walked; id breaks ties, so that paging is stable.
CREATE INDEX volumes_project_created ON volumes (project_id, created_at DESC, id DESC);
CREATE INDEX volumes_created ON volumes (created_at DESC, id DESC);
CREATE INDEX volumes_project_name ON volumes (project_id, name, id);
CREATE INDEX volumes_name ON volumes (name, id);
CREATE INDEX volumes_project_status ON volumes (project_id, status, created_at DESC, id DESC);
CREATE INDEX volumes_image_status ON volumes (image_id, status);
CREATE INDEX volumes_home ON volumes (home) WHERE home IS NOT NULL;
CREATE INDEX volumes_status ON volumes (status, created_at DESC, id DESC);

CREATE TABLE attachments (
    id              uuid PRIMARY KEY,
    volume_id       uuid NOT NULL REFERENCES volumes (id),
    project_id      text NOT NULL,
    user_id         text NOT NULL,
    instance_uuid   uuid,
    attached_host   text,
    mountpoint      text,
    attach_mode     text,
    attach_status   text NOT NULL,
    connector       jsonb,
    connection_info jsonb,
    chap_secret     text NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz,
    attached_at     timestamptz,
    detached_at     timestamptz
);
CREATE INDEX attachments_volume ON attachments (volume_id);
CREATE INDEX attachments_instance ON attachments (instance_uuid);
CREATE INDEX attachments_project ON attachments (project_id, created_at DESC, id DESC);

CREATE TABLE snapshots (
    id               uuid PRIMARY KEY,
    volume_id        uuid NOT NULL REFERENCES volumes (id),
    project_id       text NOT NULL,
    user_id          text NOT NULL,
    name             text,
    description      text,
    size_gib         integer NOT NULL,
    status           text NOT NULL,
    progress         text NOT NULL DEFAULT '0%',
    metadata         jsonb NOT NULL DEFAULT '{}',
    thin_id          bigint,
    group_snapshot_id uuid,
    consumes_quota   boolean NOT NULL DEFAULT true,
    error            text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz
);
CREATE INDEX snapshots_volume ON snapshots (volume_id);
CREATE INDEX snapshots_project_created ON snapshots (project_id, created_at DESC, id DESC);

-- Long work. A row is taken with FOR UPDATE SKIP LOCKED and held by a lease, so
-- that the death of its taker gives it back.
CREATE TABLE jobs (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind        text NOT NULL,              -- import-image, delete-volume, release-image
    subject     text NOT NULL,              -- id of the row it is about
    args        jsonb NOT NULL DEFAULT '{}',
    attempts    integer NOT NULL DEFAULT 0,
    error       text,
    run_at      timestamptz NOT NULL DEFAULT now(),
    taken_by    text,
    taken_until timestamptz,
    again       boolean NOT NULL DEFAULT false, -- asked for once more while it was taken
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (kind, subject)
);
CREATE INDEX jobs_run_at ON jobs (run_at);

-- Who leads a loop that only one replica may run.
CREATE TABLE leases (
    name       text PRIMARY KEY,
    holder     text NOT NULL,
    expires_at timestamptz NOT NULL
);

-- Replicas of the control plane.
CREATE TABLE services (
    host            text NOT NULL,
    "binary"        text NOT NULL,
    disabled        boolean NOT NULL DEFAULT false,
    disabled_reason text,
    last_seen       timestamptz NOT NULL DEFAULT now(),
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (host, "binary")
);

CREATE TABLE messages (
    id             uuid PRIMARY KEY,
    project_id     text NOT NULL,
    request_id     text NOT NULL DEFAULT '',
    resource_type  text NOT NULL,
    resource_uuid  uuid,
    event_id       text NOT NULL,
    message_level  text NOT NULL DEFAULT 'ERROR',
    user_message   text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    expires_at     timestamptz NOT NULL DEFAULT now() + interval '30 days'
);
CREATE INDEX messages_project ON messages (project_id, created_at DESC, id DESC);
CREATE INDEX messages_expiry ON messages (expires_at);

CREATE TABLE quotas (
    project_id text NOT NULL,
    resource   text NOT NULL,
    hard_limit integer NOT NULL CHECK (hard_limit >= -1),
    PRIMARY KEY (project_id, resource)
);
CREATE TABLE quota_classes (
    class_name text NOT NULL,
    resource   text NOT NULL,
    hard_limit integer NOT NULL CHECK (hard_limit >= -1),
    PRIMARY KEY (class_name, resource)
);
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

-- +goose Down
DROP TABLE reservations, quota_usages, quota_classes, quotas, messages, services, leases, jobs,
    snapshots, attachments, volumes, tree_members, images, volume_type_access, volume_types, qos_specs, thin_numbers, nodes;
