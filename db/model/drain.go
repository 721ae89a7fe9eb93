package model

import "github.com/google/uuid"

// Drain is what is left on a node that is to be taken out of service.
type Drain struct {
	Node      Node
	Readers   int         // members of trees that read from it, counted in each
	Images    int         // that they read
	OnlyRoots []uuid.UUID // images that no other origin has
	Volumes   []Volume    // that live there, with their attachments
}
