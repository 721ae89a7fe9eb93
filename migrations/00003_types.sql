-- +goose Up

-- Every installation of Cinder has this type from its first migration on.
INSERT INTO volume_types (id, name, description) VALUES (gen_random_uuid(), '__DEFAULT__', 'Default Volume Type')
    ON CONFLICT (name) DO NOTHING;

ALTER TABLE qos_specs ADD COLUMN updated_at timestamptz;
ALTER TABLE qos_specs ADD CHECK (consumer IN ('front-end', 'back-end', 'both'));
CREATE INDEX volume_types_qos_specs ON volume_types (qos_specs_id) WHERE qos_specs_id IS NOT NULL;

CREATE TABLE volume_type_encryption (
    volume_type_id   uuid PRIMARY KEY REFERENCES volume_types (id) ON DELETE CASCADE,
    id               uuid NOT NULL,
    provider         text NOT NULL,
    control_location text NOT NULL CHECK (control_location IN ('front-end', 'back-end')),
    cipher           text,
    key_size         integer,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz
);

-- What is promised to be encrypted must not be made otherwise, whoever makes it. The rows
-- hold on to their types by then, so that none becomes encrypted meanwhile.
-- +goose StatementBegin
CREATE FUNCTION refuse_plain_volumes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM made m JOIN volume_type_encryption e USING (volume_type_id) WHERE m.encryption_key_id IS NULL) THEN
        RAISE EXCEPTION 'The volume type is encrypted, and the volume has no key.' USING ERRCODE = 'VT001';
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION refuse_plain_volume() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM volume_type_encryption e WHERE e.volume_type_id = NEW.volume_type_id) THEN
        RAISE EXCEPTION 'The volume type is encrypted, and the volume has no key.' USING ERRCODE = 'VT001';
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER encrypted_insert AFTER INSERT ON volumes REFERENCING NEW TABLE AS made
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_plain_volumes();
CREATE TRIGGER encrypted_update AFTER UPDATE OF volume_type_id ON volumes
    FOR EACH ROW WHEN (NEW.encryption_key_id IS NULL AND NEW.volume_type_id IS DISTINCT FROM OLD.volume_type_id)
    EXECUTE FUNCTION refuse_plain_volume();

-- The type of a project's volumes that name none, before that of the configuration.
CREATE TABLE default_types (
    project_id     text PRIMARY KEY,
    volume_type_id uuid NOT NULL REFERENCES volume_types (id),
    created_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX default_types_type ON default_types (volume_type_id);

-- A row stays when its transfer ends, as history, also when the volume is gone.
CREATE TABLE transfers (
    id                     uuid PRIMARY KEY,
    volume_id              uuid NOT NULL,
    name                   text,
    salt                   text NOT NULL,
    key_hash               text NOT NULL,
    no_snapshots           boolean NOT NULL DEFAULT false,
    source_project_id      text NOT NULL,
    destination_project_id text,
    accepted               boolean NOT NULL DEFAULT false,
    created_at             timestamptz NOT NULL DEFAULT now(),
    updated_at             timestamptz,
    ended_at               timestamptz
);
CREATE UNIQUE INDEX transfers_open ON transfers (volume_id) WHERE ended_at IS NULL;

-- The request that made the volume, for messages about it; '' if that is not known.
ALTER TABLE volumes ADD COLUMN request_id text NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE volumes DROP COLUMN request_id;
DROP TRIGGER encrypted_insert ON volumes;
DROP TRIGGER encrypted_update ON volumes;
DROP FUNCTION refuse_plain_volumes, refuse_plain_volume;
DROP TABLE transfers, default_types, volume_type_encryption;
DROP INDEX volume_types_qos_specs;
ALTER TABLE qos_specs DROP CONSTRAINT qos_specs_consumer_check, DROP COLUMN updated_at;
