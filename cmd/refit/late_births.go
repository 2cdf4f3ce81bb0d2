package main

import (
	"context"

	"vmst.io/refit/hosts/cloud"
)

// What births and sweeps ask of the account.

func (l *lateCloud) Droplet(ctx context.Context, id int) (cloud.Droplet, error) {
	return asking(l, func(api *cloud.Client) (cloud.Droplet, error) { return api.Droplet(ctx, id) })
}

func (l *lateCloud) Create(ctx context.Context, n cloud.NewDroplet) (cloud.Droplet, error) {
	return asking(l, func(api *cloud.Client) (cloud.Droplet, error) { return api.Create(ctx, n) })
}

func (l *lateCloud) Destroy(ctx context.Context, id int) error {
	return having(l, func(api *cloud.Client) error { return api.Destroy(ctx, id) })
}

func (l *lateCloud) TagDroplet(ctx context.Context, droplet int, tags ...string) error {
	return having(l, func(api *cloud.Client) error { return api.TagDroplet(ctx, droplet, tags...) })
}

func (l *lateCloud) Untag(ctx context.Context, tag string, kind cloud.Kind, id int) error {
	return having(l, func(api *cloud.Client) error { return api.Untag(ctx, tag, kind, id) })
}

func (l *lateCloud) Firewalls(ctx context.Context) ([]cloud.Firewall, error) {
	return asking(l, func(api *cloud.Client) ([]cloud.Firewall, error) { return api.Firewalls(ctx) })
}

func (l *lateCloud) CreateFirewall(ctx context.Context, f cloud.Firewall) (cloud.Firewall, error) {
	return asking(l, func(api *cloud.Client) (cloud.Firewall, error) { return api.CreateFirewall(ctx, f) })
}

func (l *lateCloud) DestroyFirewall(ctx context.Context, id string) error {
	return having(l, func(api *cloud.Client) error { return api.DestroyFirewall(ctx, id) })
}

func (l *lateCloud) Databases(ctx context.Context) ([]cloud.Database, error) {
	return asking(l, func(api *cloud.Client) ([]cloud.Database, error) { return api.Databases(ctx) })
}

func (l *lateCloud) DestroyDatabase(ctx context.Context, id string) error {
	return having(l, func(api *cloud.Client) error { return api.DestroyDatabase(ctx, id) })
}
