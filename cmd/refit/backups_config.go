package main

import (
	"errors"
	"path"
	"slices"
	"time"

	"vmst.io/refit/stages"
)

// backupsConfig says what the database could be restored from, and how fresh that must be
// before an upgrade changes it.
type backupsConfig struct {
	// MaxAge is how old the provider's newest backup of cloud.database may be; 0 where it
	// is not asked for.
	MaxAge time.Duration    `yaml:"max_age"`
	Own    *ownBackupConfig `yaml:"own"`
	// Dump is when refit dumps the database to the store, Keep how many dumps stay there.
	Dump stages.DumpPolicy `yaml:"dump"`
	Keep int               `yaml:"keep"`
}

// ownBackupConfig is how the time of a backup of one's own is found out.
type ownBackupConfig struct {
	MaxAge  time.Duration        `yaml:"max_age"`
	Command *backupCommandConfig `yaml:"command"`
	S3      *s3Config            `yaml:"s3"`
}

// backupCommandConfig is a command that prints when the last backup was made.
type backupCommandConfig struct {
	Host string   `yaml:"host"`
	Argv []string `yaml:"argv"`
}

// leastAge is less than any backup can be kept at: a smaller one is a number without its
// unit.
const leastAge = time.Minute

func (c config) checkBackups(w *wrongs) {
	b := c.Backups
	if b == nil {
		return
	}
	age := func(field string, d time.Duration) {
		if d < leastAge {
			w.say(field, "%s is less than a minute", d)
		}
	}
	if b.MaxAge != 0 {
		age("backups.max_age", b.MaxAge)
		if c.Cloud == nil || c.Cloud.Database == "" {
			w.say("backups.max_age", "is of the provider's backups, and cloud.database names no database")
		}
	}
	if !slices.Contains([]stages.DumpPolicy{stages.DumpNever, stages.DumpOneWay, stages.DumpAlways}, b.Dump) {
		w.say("backups.dump", "%q is none of never, one-way and always", b.Dump)
	} else if b.Dump != stages.DumpNever && c.Store.Dir == "" && c.Store.S3 == nil {
		w.say("backups.dump", "%s: there is no store to dump to; give store a dir or an s3", b.Dump)
	}
	if b.Keep < 1 {
		w.say("backups.keep", "%d: at least one dump must stay", b.Keep)
	}
	if b.MaxAge == 0 && b.Own == nil && b.Dump == stages.DumpNever {
		w.say("backups", "asks for nothing: give it max_age, own or dump, or leave it out")
	}
	if b.Own == nil {
		return
	}
	age("backups.own.max_age", b.Own.MaxAge)
	if (b.Own.Command == nil) == (b.Own.S3 == nil) {
		w.say("backups.own", "needs either a command or an s3, which tells when the newest backup was made")
	}
	b.Own.S3.check(w, "backups.own.s3")
	if cmd := b.Own.Command; cmd != nil {
		if !slices.ContainsFunc(c.Hosts, func(h hostConfig) bool { return h.Name == cmd.Host }) {
			w.say("backups.own.command.host", "%q is none of hosts", cmd.Host)
		}
		if len(cmd.Argv) == 0 || !path.IsAbs(cmd.Argv[0]) || path.Clean(cmd.Argv[0]) != cmd.Argv[0] {
			w.say("backups.own.command.argv", "%q: begins with the program's clean absolute path", cmd.Argv)
		}
	}
}

// UnmarshalYAML fills in the defaults of what the file does not name.
func (b *backupsConfig) UnmarshalYAML(unmarshal func(any) error) error {
	type plain backupsConfig
	p := plain{Dump: stages.DumpNever, Keep: 3}
	if err := unmarshal(&p); err != nil {
		return err
	}
	*b = backupsConfig(p)
	return nil
}

// wireBackups puts in what was written down of backups. provider is the cloud account; nil
// for none.
func (x *session) wireBackups(provider stages.Provider) error {
	c := x.config
	if c.Backups == nil {
		return nil
	}
	b := &stages.Backups{MaxAge: c.Backups.MaxAge, Dump: c.Backups.Dump, Keep: c.Backups.Keep, Fleet: c.Fleet}
	if b.MaxAge > 0 {
		if provider == nil {
			return errors.New("backups.max_age cannot be held: there is no cloud account to ask for the provider's backups")
		}
		b.Provider, b.Database = provider, c.Cloud.Database
	}
	if own := c.Backups.Own; own != nil {
		b.Own = &stages.OwnBackup{MaxAge: own.MaxAge}
		if own.Command != nil {
			b.Own.Host, b.Own.Argv = own.Command.Host, own.Command.Argv
		}
		if own.S3 != nil {
			bucket, err := c.bucket(own.S3, "backups.own.s3", x.say)
			if err != nil {
				return err
			}
			b.Own.Bucket = bucket
		}
	}
	x.deps.Backups = b
	return nil
}
