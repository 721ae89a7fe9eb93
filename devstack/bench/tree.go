package bench

import "context"

var tree = Case{Name: "tree", Title: "10,000 nodes join one tree", Run: runTree}

func runTree(ctx context.Context, b *Bench) error { return errNotYet }
