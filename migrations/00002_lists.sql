-- +goose Up

-- Members that could take a child are found by how many they have: in a tree that is full
-- above, those with room are the few at its end.
CREATE INDEX tree_members_room ON tree_members (image_id, children, depth, host)
    WHERE state IN ('joining', 'active');
DROP INDEX tree_members_frontier;

-- What lists are asked for by value. Few volumes have a group or migrate.
CREATE INDEX volumes_type ON volumes (volume_type_id, created_at DESC, id DESC);
CREATE INDEX volumes_group ON volumes (group_id) WHERE group_id IS NOT NULL;
CREATE INDEX volumes_migration ON volumes (migration_status) WHERE migration_status IS NOT NULL;
CREATE INDEX volumes_metadata ON volumes USING gin (metadata jsonb_path_ops);
CREATE INDEX attachments_created ON attachments (created_at DESC, id DESC);
CREATE INDEX messages_resource ON messages (resource_uuid);

-- +goose Down
DROP INDEX messages_resource, attachments_created, volumes_metadata, volumes_migration, volumes_group, volumes_type;
CREATE INDEX tree_members_frontier ON tree_members (image_id, depth, children, host)
    WHERE state IN ('joining', 'active');
DROP INDEX tree_members_room;
