-- +goose Up

-- draining: the node is to be taken out of service. It takes nothing new, and nobody reads images from it
-- who can read them from another.
ALTER TABLE nodes ADD COLUMN draining boolean NOT NULL DEFAULT false;

-- +goose Down
ALTER TABLE nodes DROP COLUMN draining;
