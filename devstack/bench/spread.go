package bench

import "context"

var spread = Case{Name: "spread", Title: "8 cold nodes read the same 32 MiB at once", Run: runSpread}

func runSpread(ctx context.Context, b *Bench) error { return errNotYet }
