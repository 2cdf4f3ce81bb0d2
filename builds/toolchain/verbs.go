package toolchain

import (
	"context"
	"io"

	"vmst.io/refit/hosts/node"
)

// Verbs are what a builder host does itself to make toolchains, beside the jobs.
// "toolchain.plan" changes nothing but the builder's cache, so that a plan can be made
// by who holds no lease.
func Verbs() []node.Verb { return workshop{try: tryCommand}.verbs() }

// workshop is the builder host, seen from inside.
type workshop struct {
	fetcher fetcher
	// try runs a command and tells whether it ended well.
	try func(ctx context.Context, argv ...string) error
}

func (w workshop) verbs() []node.Verb {
	return []node.Verb{
		{Name: "toolchain.plan", Run: node.Typed(func(ctx context.Context, in PlanIn, _ io.Reader, _ func(string)) (Planned, error) {
			return w.plan(ctx, in)
		})},
		{Name: "toolchain.look", Run: node.Typed(func(ctx context.Context, in LookIn, _ io.Reader, _ func(string)) (LookOut, error) {
			return look(ctx, in)
		})},
		{Name: "toolchain.begin", Changes: true, Run: node.Typed(func(ctx context.Context, in MakeIn, _ io.Reader, _ func(string)) (struct{}, error) {
			return begin(ctx, in)
		})},
		{Name: "toolchain.fetch", Changes: true, Run: node.Typed(func(ctx context.Context, in MakeIn, _ io.Reader, say func(string)) (FetchOut, error) {
			return fetch(ctx, w.fetcher, in, say)
		})},
		{Name: "toolchain.unpack", Changes: true, Run: node.Typed(func(ctx context.Context, in MakeIn, _ io.Reader, _ func(string)) (struct{}, error) {
			return unpack(ctx, in)
		})},
		{Name: "toolchain.finish", Changes: true, Run: node.Typed(func(ctx context.Context, in MakeIn, _ io.Reader, _ func(string)) (FinishOut, error) {
			return finish(ctx, in)
		})},
		{Name: "toolchain.remove", Changes: true, Run: node.Typed(func(ctx context.Context, in MakeIn, _ io.Reader, _ func(string)) (RemoveOut, error) {
			return remove(ctx, in)
		})},
	}
}
