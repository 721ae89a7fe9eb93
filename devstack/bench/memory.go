package bench

import "context"

var memory = Case{Name: "memory", Title: "Memory of the control plane", Run: runMemory}

func runMemory(ctx context.Context, b *Bench) error { return errNotYet }
