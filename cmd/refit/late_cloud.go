package main

import (
	"context"
	"time"

	"vmst.io/refit/hosts/cloud"
)

// lateCloud is the account, to which the way is opened at the first question.
type lateCloud struct {
	open func() (*cloud.Client, error)
}

// asking opens the way and asks.
func asking[T any](l *lateCloud, ask func(*cloud.Client) (T, error)) (T, error) {
	api, err := l.open()
	if err != nil {
		var none T
		return none, err
	}
	return ask(api)
}

// having opens the way and has something done.
func having(l *lateCloud, do func(*cloud.Client) error) error {
	api, err := l.open()
	if err != nil {
		return err
	}
	return do(api)
}

func (l *lateCloud) Droplets(ctx context.Context, tag string) ([]cloud.Droplet, error) {
	return asking(l, func(api *cloud.Client) ([]cloud.Droplet, error) { return api.Droplets(ctx, tag) })
}

func (l *lateCloud) Pending(ctx context.Context, droplet int) (cloud.Action, bool, error) {
	api, err := l.open()
	if err != nil {
		return cloud.Action{}, false, err
	}
	return api.Pending(ctx, droplet)
}

func (l *lateCloud) Snapshot(ctx context.Context, droplet int, name string) (cloud.Action, error) {
	return asking(l, func(api *cloud.Client) (cloud.Action, error) { return api.Snapshot(ctx, droplet, name) })
}

func (l *lateCloud) Await(ctx context.Context, droplet, action int, every time.Duration, say func(string, ...any)) error {
	return having(l, func(api *cloud.Client) error { return api.Await(ctx, droplet, action, every, say) })
}

func (l *lateCloud) SnapshotOf(ctx context.Context, droplet int, name string) (cloud.Image, error) {
	return asking(l, func(api *cloud.Client) (cloud.Image, error) { return api.SnapshotOf(ctx, droplet, name) })
}

func (l *lateCloud) Images(ctx context.Context, tag string) ([]cloud.Image, error) {
	return asking(l, func(api *cloud.Client) ([]cloud.Image, error) { return api.Images(ctx, tag) })
}

func (l *lateCloud) Image(ctx context.Context, id int) (cloud.Image, error) {
	return asking(l, func(api *cloud.Client) (cloud.Image, error) { return api.Image(ctx, id) })
}

func (l *lateCloud) TagImage(ctx context.Context, image int, tags ...string) error {
	return having(l, func(api *cloud.Client) error { return api.TagImage(ctx, image, tags...) })
}

func (l *lateCloud) DeleteImage(ctx context.Context, id int) error {
	return having(l, func(api *cloud.Client) error { return api.DeleteImage(ctx, id) })
}

func (l *lateCloud) Power(ctx context.Context, id int, to cloud.Power) error {
	return having(l, func(api *cloud.Client) error { return api.Power(ctx, id, to) })
}

func (l *lateCloud) Backups(ctx context.Context, database string) ([]cloud.Backup, error) {
	return asking(l, func(api *cloud.Client) ([]cloud.Backup, error) { return api.Backups(ctx, database) })
}

func (l *lateCloud) Account(ctx context.Context) (cloud.Account, error) {
	return asking(l, func(api *cloud.Client) (cloud.Account, error) { return api.Account(ctx) })
}

func (l *lateCloud) Database(ctx context.Context, idOrName string) (cloud.Database, error) {
	return asking(l, func(api *cloud.Client) (cloud.Database, error) { return api.Database(ctx, idOrName) })
}

func (l *lateCloud) Fork(ctx context.Context, n cloud.NewDatabase) (cloud.Database, error) {
	return asking(l, func(api *cloud.Client) (cloud.Database, error) { return api.Fork(ctx, n) })
}

func (l *lateCloud) Login(ctx context.Context, idOrName string) (cloud.Login, error) {
	return asking(l, func(api *cloud.Client) (cloud.Login, error) { return api.Login(ctx, idOrName) })
}
