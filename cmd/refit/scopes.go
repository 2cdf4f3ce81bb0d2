package main

// scope is a permission of the account's token, and what refit does with it.
type scope struct {
	Name string
	// For is what it is used for, Since the command that first needs it.
	For, Since string
	// Upgrade: an upgrade itself cannot go on without it.
	Upgrade bool
	// wanted tells whether this refit.yml has a use for it; nil for always.
	wanted func(cloudConfig) bool
	// spared tells whether with this refit.yml an upgrade goes on without it, only its
	// golden images are not made; nil for never.
	spared func(cloudConfig) bool
}

// scopes are all that refit uses, in the order of docs/cloud.md, whose table a test
// holds to this one.
var scopes = []scope{
	{Name: "account:read", For: "the account's status and its limit of droplets", Since: "refit init"},
	{Name: "droplet:read", For: "find the fleet's droplets, their actions and snapshots", Since: "refit init", Upgrade: true},
	{Name: "load_balancer:read", For: "which proxies the balancer sends users to", Since: "refit init", Upgrade: true, wanted: hasBalancer},
	{Name: "database:read", For: "the database's state and its backups", Since: "refit init", Upgrade: true, wanted: hasDatabase},
	{Name: "monitoring:read", For: "the balancer's own count of answers and its checks", Since: "refit plan", wanted: hasBalancer},
	{Name: "image:read", For: "find snapshots and golden images again", Since: "refit plan", Upgrade: true, spared: noSnapshots},
	{Name: "snapshot:read", For: "find snapshots and golden images again", Since: "refit plan", Upgrade: true, spared: noSnapshots},
	{Name: "droplet:update", For: "begin a snapshot; power", Since: "refit upgrade", Upgrade: true, spared: noSnapshots},
	{Name: "image:create", For: "begin a snapshot", Since: "refit upgrade", Upgrade: true, spared: noSnapshots},
	{Name: "image:update", For: "tag images", Since: "refit upgrade", Upgrade: true, spared: noSnapshots},
	{Name: "tag:read", For: "tell by tags what is refit's", Since: "refit upgrade", Upgrade: true, spared: noSnapshots},
	{Name: "tag:create", For: "mark what refit makes as its own", Since: "refit upgrade", Upgrade: true, spared: noSnapshots},
	{Name: "tag:delete", For: "take a mark off", Since: "refit upgrade"},
	{Name: "image:delete", For: "remove images of refit's that are past their time", Since: "refit upgrade"},
	{Name: "snapshot:delete", For: "remove snapshots of refit's that are past their time", Since: "refit upgrade"},
	{Name: "droplet:create", For: "make a node from an image", Since: "refit rehearse, refit replace, refit add"},
	{Name: "droplet:delete", For: "destroy the nodes of a rehearsal, retire a replaced one", Since: "refit rehearse, refit replace"},
	{Name: "droplet:admin", For: "put a snapshot back onto its own droplet", Since: "restoring a host"},
	{Name: "firewall:read", For: "find the firewall that a new node is born under", Since: "refit rehearse, refit replace, refit add"},
	{Name: "firewall:create", For: "close a new node off before it boots", Since: "refit rehearse, refit replace, refit add"},
	{Name: "firewall:delete", For: "take that firewall away", Since: "refit rehearse, refit replace, refit add"},
	{Name: "database:create", For: "fork the database for a rehearsal", Since: "refit rehearse", wanted: hasDatabase},
	{Name: "database:view_credentials", For: "the login of a rehearsal's own Valkey", Since: "refit rehearse", wanted: hasDatabase},
	{Name: "database:delete", For: "destroy that fork", Since: "refit rehearse", wanted: hasDatabase},
}

func hasBalancer(c cloudConfig) bool { return c.Balancer != "" }
func hasDatabase(c cloudConfig) bool { return c.Database != "" }

// noSnapshots: golden images are made all the same, and fail no upgrade.
func noSnapshots(c cloudConfig) bool { return len(c.Snapshots.Tiers) == 0 }
