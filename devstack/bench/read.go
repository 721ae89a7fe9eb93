package bench

import "context"

var read = Case{Name: "read", Title: "4 KiB random reads of a warm volume", Run: runRead}

func runRead(ctx context.Context, b *Bench) error { return errNotYet }
