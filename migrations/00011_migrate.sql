-- +goose Up

-- A task may fill a new thin device that becomes a volume's, and a task may let another node
-- read what it keeps up.
ALTER TABLE tasks ADD COLUMN secret text NOT NULL DEFAULT ''; -- CHAP, between the two nodes
ALTER TABLE tasks DROP CONSTRAINT tasks_access_check;
ALTER TABLE tasks DROP CONSTRAINT tasks_check;
ALTER TABLE tasks DROP CONSTRAINT tasks_check1;
ALTER TABLE tasks ADD CONSTRAINT tasks_access_check CHECK (access IN ('copy', 'volume', 'fill'));
ALTER TABLE tasks ADD CONSTRAINT tasks_thin_check CHECK (CASE access
    WHEN 'copy' THEN (thin_id IS NULL) = (source_thin IS NULL)
    WHEN 'fill' THEN source_thin IS NULL
    ELSE thin_id IS NULL AND source_thin IS NULL END);

-- +goose Down
DELETE FROM tasks WHERE access = 'fill' OR kind = 'serve';
ALTER TABLE tasks DROP CONSTRAINT tasks_thin_check;
ALTER TABLE tasks DROP CONSTRAINT tasks_access_check;
ALTER TABLE tasks ADD CONSTRAINT tasks_access_check CHECK (access IN ('copy', 'volume'));
ALTER TABLE tasks ADD CONSTRAINT tasks_check CHECK ((thin_id IS NULL) = (source_thin IS NULL));
ALTER TABLE tasks ADD CONSTRAINT tasks_check1 CHECK (access = 'copy' OR thin_id IS NULL);
ALTER TABLE tasks DROP COLUMN secret;
