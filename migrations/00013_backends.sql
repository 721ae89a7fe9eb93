-- +goose Up

-- The backend that a node's pool is of, as its agent says: '' is the control plane's own name.
ALTER TABLE nodes ADD COLUMN backend text NOT NULL DEFAULT '';

-- placed: the node that a volume without a home is shown on, since its type is not for every node. It
-- lives there unless another node that its type is for asks for it first.
-- retype_to: the type that a volume gets when it has moved to where that can be had.
ALTER TABLE volumes
    ADD COLUMN placed    text REFERENCES nodes (host),
    ADD COLUMN retype_to uuid REFERENCES volume_types (id);
CREATE INDEX volumes_host ON volumes ((COALESCE(home, placed))) WHERE COALESCE(home, placed) IS NOT NULL;
CREATE INDEX volumes_placed ON volumes (placed) WHERE placed IS NOT NULL;
CREATE INDEX volumes_retype_to ON volumes (retype_to) WHERE retype_to IS NOT NULL;

-- Meanwhile it counts for that type too, but not twice for its project.
-- +goose StatementBegin
CREATE FUNCTION retype_usage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.retype_to IS NOT NULL AND OLD.consumes_quota THEN
        INSERT INTO usage_changes (project_id, volume_type_id, volumes, gib)
            VALUES (OLD.project_id, OLD.retype_to, -1, -OLD.size_gib), (OLD.project_id, NULL, 1, OLD.size_gib);
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.retype_to IS NOT NULL AND NEW.consumes_quota THEN
        INSERT INTO usage_changes (project_id, volume_type_id, volumes, gib)
            VALUES (NEW.project_id, NEW.retype_to, 1, NEW.size_gib), (NEW.project_id, NULL, -1, -NEW.size_gib);
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER usage_retype AFTER UPDATE OF project_id, retype_to, size_gib, consumes_quota ON volumes
    FOR EACH ROW WHEN ((OLD.retype_to IS NOT NULL OR NEW.retype_to IS NOT NULL)
        AND (OLD.project_id, OLD.retype_to, OLD.size_gib, OLD.consumes_quota)
            IS DISTINCT FROM (NEW.project_id, NEW.retype_to, NEW.size_gib, NEW.consumes_quota))
    EXECUTE FUNCTION retype_usage();
CREATE TRIGGER usage_retype_delete AFTER DELETE ON volumes
    FOR EACH ROW WHEN (OLD.retype_to IS NOT NULL) EXECUTE FUNCTION retype_usage();

-- +goose Down
UPDATE volumes SET retype_to = NULL WHERE retype_to IS NOT NULL; -- takes back what it counts for
DROP TRIGGER usage_retype ON volumes;
DROP TRIGGER usage_retype_delete ON volumes;
DROP FUNCTION retype_usage;
ALTER TABLE volumes DROP COLUMN placed, DROP COLUMN retype_to; -- with their indexes
ALTER TABLE nodes DROP COLUMN backend;
