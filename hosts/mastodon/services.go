package mastodon

// RedisIn asks about Redis.
type RedisIn struct {
	Layout Layout `json:"layout"`
}

// RedisServers are the Redis servers that the environment names; one server with
// several uses is told once.
type RedisServers struct {
	Servers []RedisServer `json:"servers"`
}

// RedisServer is one server.
type RedisServer struct {
	// Uses are what Mastodon has it for: "main", "sidekiq", "cache".
	Uses []string `json:"uses"`
	// Address as the node reaches it: that of stunnel, where one stands between.
	Address string `json:"address"`
	Version string `json:"version"`
	// Role is "master" or "slave".
	Role string `json:"role"`
	// Policy is maxmemory_policy. Sidekiq loses jobs under any but "noeviction".
	Policy string `json:"policy"`
	// UsedMemory and MaxMemory in bytes; MaxMemory 0 for no limit.
	UsedMemory int64 `json:"used_memory"`
	MaxMemory  int64 `json:"max_memory"`
	// RunID changes when the server restarts or is another one.
	RunID string `json:"run_id"`
}

// SearchIn asks about the search server.
type SearchIn struct {
	Layout Layout `json:"layout"`
}

// Search is the search server.
type Search struct {
	// Enabled: the environment says ES_ENABLED=true. Nothing else is told otherwise.
	Enabled bool `json:"enabled"`
	// Distribution is "opensearch" or empty for Elasticsearch.
	Distribution string `json:"distribution,omitempty"`
	Version      string `json:"version,omitempty"`
	// Indexes that carry the environment's prefix or none.
	Indexes []SearchIndex `json:"indexes,omitempty"`
}

// SearchIndex is one index.
type SearchIndex struct {
	Name   string `json:"name"`
	Health string `json:"health,omitempty"`
	Docs   int64  `json:"docs"`
	// Closed: it answers no search until it is opened.
	Closed bool `json:"closed,omitempty"`
}

// LibrariesIn names a release whose native code to look at.
type LibrariesIn struct {
	Layout  Layout `json:"layout"`
	Release string `json:"release"`
}

// Libraries is what was found.
type Libraries struct {
	// Files is how many shared objects of the release were looked at.
	Files int `json:"files"`
	// Missing are libraries that the host lacks, each with the first file that needs it.
	Missing []MissingLibrary `json:"missing,omitempty"`
}

// MissingLibrary is a library that the host lacks.
type MissingLibrary struct {
	Library string `json:"library"`
	// NeededBy is a path inside the release.
	NeededBy string `json:"needed_by"`
}
