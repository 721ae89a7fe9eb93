package bench

import "context"

var attach = Case{Name: "attach", Title: "Attach of a warm image until the device is there", Run: runAttach}

func runAttach(ctx context.Context, b *Bench) error { return errNotYet }
