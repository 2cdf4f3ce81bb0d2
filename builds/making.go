package builds

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"vmst.io/refit/builds/attest"
)

// making is a build at work: the parts of a release, one after the other, each taken
// from what the builder kept where it is made from the very same, and made otherwise.
type making struct {
	b     *Builder
	r     Recipe
	built *Built
	say   func(string)
	// fetched: yarn is there, with all packages of this release.
	fetched bool
	// kept are the parts of earlier builds that were taken.
	kept []attest.Kept
}

// call asks the builder host for a verb.
func (m *making) call(ctx context.Context, verb string, in, out any) error {
	return m.b.Host.Call(ctx, verb, in, nil, out, m.say)
}

// step runs one of the recipe's steps.
func (m *making) step(ctx context.Context, name string) error {
	step, ok := m.r.step(name)
	if !ok {
		return fmt.Errorf("the recipe of %s has no step %s", m.r.Release.Version, name)
	}
	return m.b.timed(name, m.built, func() error { return m.b.run(ctx, m.r, step, m.say) })
}

// take looks for a part that was kept.
func (m *making) take(ctx context.Context, k Kind) (bool, error) {
	var out TakeOut
	err := m.b.timed("take-"+string(k), m.built, func() error { return m.call(ctx, "build.take", m.r.part(k), &out) })
	if err != nil {
		return false, err
	}
	if out.Harm != "" {
		m.say(fmt.Sprintf("the kept %s is damaged (%s) and made again", k, out.Harm))
	}
	if out.Found {
		m.say(fmt.Sprintf("%s: made from the same for %s on %s, %d files verified", k, out.Release, out.Made.Format(time.DateOnly), out.Files))
		m.built.Kept = append(m.built.Kept, k)
		m.kept = append(m.kept, attest.Kept{Name: string(k), Release: out.Release, Made: out.Made, Mirrors: out.Mirrors})
	}
	return out.Found, nil
}

// clear makes the place free in which a part will be made.
func (m *making) clear(ctx context.Context, k Kind) error {
	return m.call(ctx, "build.clear", m.r.part(k), nil)
}

// keep keeps a part that was made for later builds.
func (m *making) keep(ctx context.Context, k Kind) error {
	return m.b.timed("keep-"+string(k), m.built, func() error { return m.call(ctx, "build.keep", m.r.part(k), nil) })
}

// gems makes vendor/bundle.
func (m *making) gems(ctx context.Context) error {
	if found, err := m.take(ctx, Bundle); found || err != nil {
		return err
	}
	if err := m.clear(ctx, Bundle); err != nil {
		return err
	}
	if err := m.step(ctx, stepGems); err != nil {
		return err
	}
	err := m.b.timed("check-gems", m.built, func() error {
		return m.call(ctx, "build.gems", GemsIn{Layout: m.r.Layout, Version: m.r.Release.Version, Registry: m.r.Mirrors.Gems, Patience: m.b.Patience}, nil)
	})
	if err != nil {
		return err
	}
	if err := m.step(ctx, stepBundle); err != nil {
		return err
	}
	return m.keep(ctx, Bundle)
}

// packages makes the assets, and leaves the node packages that the release keeps.
func (m *making) packages(ctx context.Context) error {
	assets, err := m.take(ctx, Assets)
	if err != nil {
		return err
	}
	streaming := m.r.Release.Contents.StreamingWorkspace != ""
	if !assets || !streaming {
		if err := m.allPackages(ctx); err != nil {
			return err
		}
	}
	if !assets {
		if err := m.step(ctx, stepAssets); err != nil {
			return err
		}
		if err := m.keep(ctx, Assets); err != nil {
			return err
		}
	}
	if !streaming {
		return nil
	}
	if err := m.clear(ctx, Streaming); err != nil {
		return err
	}
	if found, err := m.take(ctx, Streaming); found || err != nil {
		return err
	}
	if err := m.fetchPackages(ctx); err != nil {
		return err
	}
	if err := m.step(ctx, stepFocus); err != nil {
		return err
	}
	return m.keep(ctx, Streaming)
}

// allPackages puts the packages there that assets are made with.
func (m *making) allPackages(ctx context.Context) error {
	if found, err := m.take(ctx, Packages); found || err != nil {
		return err
	}
	if err := m.fetchPackages(ctx); err != nil {
		return err
	}
	if err := m.step(ctx, stepYarn); err != nil {
		return err
	}
	return m.keep(ctx, Packages)
}

// fetchPackages fetches yarn and with it all packages, and installs none.
func (m *making) fetchPackages(ctx context.Context) error {
	if m.fetched {
		return nil
	}
	err := m.b.timed("fetch-yarn", m.built, func() error {
		var out YarnOut
		err := m.call(ctx, "build.yarn", YarnIn{
			Layout: m.r.Layout, Version: m.r.Release.Version, Registry: m.r.Mirrors.NPM, Yarn: m.r.Toolchain.Yarn, Hash: m.r.Toolchain.YarnHash,
			Checksums: m.r.Mirrors.YarnChecksums, Patience: m.b.Patience,
		}, &out)
		if err == nil && !out.Pinned {
			m.say("yarn " + m.r.Toolchain.Yarn + " was held to the registry's checksum: package.json names none")
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := m.step(ctx, stepPackages); err != nil {
		return err
	}
	m.fetched = true
	return m.clear(ctx, Packages)
}

// compile settles the release's files and compiles Ruby's code from them.
func (m *making) compile(ctx context.Context) error {
	v := m.r.Release.Version
	if err := m.call(ctx, "build.clean", CleanIn{Layout: m.r.Layout, Version: v}, nil); err != nil {
		return err
	}
	if err := m.call(ctx, "build.settle", SettleIn{Layout: m.r.Layout, Version: v}, nil); err != nil {
		return err
	}
	for _, name := range []string{stepCompile, stepBoot} {
		if _, ok := m.r.step(name); !ok {
			continue
		}
		if err := m.step(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// conclude proves what was built and makes it whole.
func (m *making) conclude(ctx context.Context) error {
	v := m.r.Release.Version
	return m.b.timed("finish", m.built, func() error {
		if err := m.call(ctx, "build.clean", CleanIn{Layout: m.r.Layout, Version: v}, nil); err != nil {
			return err
		}
		var proof VerifyOut
		if err := m.call(ctx, "build.verify", VerifyIn{Layout: m.r.Layout, Version: v}, &proof); err != nil {
			return err
		}
		m.say(fmt.Sprintf("the tracked files are unmodified after the build, and all %d files that the asset manifests name are there", proof.Assets))
		var out FinishOut
		if err := m.call(ctx, "build.finish", FinishIn{Layout: m.r.Layout, Version: v, Recipe: m.built.Recipe, Toolchain: m.r.Toolchain, Departures: m.built.Departures, Claims: m.claims()}, &out); err != nil {
			return err
		}
		for _, gap := range out.Gaps {
			m.say("the bill of materials is not complete: " + gap)
		}
		m.built.Manifest, m.built.Unverified = out.Manifest, out.Unverified
		m.say(fmt.Sprintf("%s is built: %d files, %s", v, out.Manifest.Files, size(out.Manifest.Bytes)))
		return nil
	})
}

// sign has the operator's key sign what conclude made.
func (m *making) sign(ctx context.Context) error { return m.b.sign(ctx, m.r, m.built, m.say) }

// evict removes what the builder has kept too long. The release is whole by now, so
// that this cannot be done is said and harms nothing.
func (m *making) evict(ctx context.Context) error {
	in := EvictIn{Layout: m.r.Layout, Age: cmp.Or(m.b.KeepAge, 60*24*time.Hour), Bytes: cmp.Or(m.b.KeepBytes, int64(10<<30))}
	var out EvictOut
	if err := m.call(ctx, "build.evict", in, &out); err != nil {
		m.say("what the builder keeps could not be looked through: " + err.Error())
		return context.Cause(ctx)
	}
	for _, r := range out.Removed {
		m.say("no longer kept on the builder: " + r)
	}
	return nil
}
