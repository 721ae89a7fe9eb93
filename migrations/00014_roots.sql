-- +goose Up

-- importing: a root that fetches the image while another serves it. Nobody is put below it yet.
ALTER TABLE tree_members DROP CONSTRAINT tree_members_state_check,
    ADD CONSTRAINT tree_members_state_check CHECK (state IN ('joining', 'importing', 'active', 'path-lost', 'draining', 'leaving'));

-- +goose Down
UPDATE tree_members SET state = 'joining' WHERE state = 'importing';
ALTER TABLE tree_members DROP CONSTRAINT tree_members_state_check,
    ADD CONSTRAINT tree_members_state_check CHECK (state IN ('joining', 'active', 'path-lost', 'draining', 'leaving'));
