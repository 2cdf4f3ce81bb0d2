package node

import (
	"context"
	"io"
	"time"
)

// WantIn asks which files of a release, or of a toolchain, a host lacks.
type WantIn struct {
	// Kind tells which of the two.
	Kind Kind `json:"kind,omitempty"`
	// Home is the directory that holds live and releases; empty for /home/mastodon.
	Home string `json:"home,omitempty"`
	// Release and Digest are those of the manifest that the pack begins with. Another
	// manifest there gives ErrPayload.
	Release string `json:"release"`
	Digest  string `json:"digest"`
	// Signed is whose signature the manifest must have, else ErrSignature; nil for none.
	Signed *Signed `json:"signed,omitempty"`
	// Links and Writable as in PutIn: one that was placed otherwise is not placed.
	Links    map[string]string `json:"links,omitempty"`
	Writable []string          `json:"writable,omitempty"`
}

// WantOut tells what to send.
type WantOut struct {
	// Placed: the release is complete on the host already, every file verified; of a
	// toolchain, one of the same recipe.
	Placed bool `json:"placed"`
	// Indexes are the places in Manifest.Files of the files to send, rising; one
	// for each content that no release on the host has.
	Indexes []int `json:"indexes"`
	// Bytes is their size; Local the bytes found on the host. What the manifest of a
	// release there says is believed of a file that has its size: PlacePut verifies it.
	Bytes int64 `json:"bytes"`
	Local int64 `json:"local"`
	// Free is what the file system of the releases has left, in bytes.
	Free uint64 `json:"free"`
}

// PlaceWant asks which files of a release the host lacks. It reads the manifest from
// pack, and no further (see Pack). It changes nothing.
func (a *Agent) PlaceWant(ctx context.Context, in WantIn, pack io.Reader, say func(string)) (WantOut, error) {
	return call[WantOut](ctx, a, "place.want", in, pack, say)
}

// PutIn places a release, or a toolchain, on a host.
type PutIn struct {
	// Kind tells which of the two. A toolchain has no links and nothing writable.
	Kind Kind `json:"kind,omitempty"`
	// Home, Release, Digest and Signed as in WantIn.
	Home    string  `json:"home,omitempty"`
	Release string  `json:"release"`
	Digest  string  `json:"digest"`
	Signed  *Signed `json:"signed,omitempty"`
	// Links maps paths in the release to the targets of symbolic links that stand
	// there instead of what the manifest has: "log" → "/home/mastodon/shared/log".
	Links map[string]string `json:"links,omitempty"`
	// Owner is the user who owns what is writable; empty for root.
	Owner string `json:"owner,omitempty"`
	// Writable are the directories of the release, with all below, that Owner may
	// write to; nil for "tmp" alone. They are made where the manifest has none.
	Writable []string `json:"writable,omitempty"`
	// Sealed: nothing in it is writable. So it lies where it was built, or would have been.
	Sealed bool `json:"sealed,omitempty"`
}

// PutOut tells what was done.
type PutOut struct {
	// Placed: the release was there already, complete and the same; nothing changed.
	Placed bool `json:"placed"`
	// Path is the release's directory.
	Path string `json:"path"`
	// Sent, Linked and Copied count files: contents from the payload, and files that are
	// hard-linked to and copied from other releases of the host.
	Sent   int `json:"sent"`
	Linked int `json:"linked"`
	Copied int `json:"copied"`
	// Lacking comes with ErrPayload: places in the manifest's Files of contents that
	// neither the pack nor an unharmed file on the host has. Nothing was changed; a pack
	// with these too will do.
	Lacking []int `json:"lacking,omitempty"`
}

// PlacePut builds the release on the host from what is there and from pack, a
// pack of the files that PlaceWant named (see Pack), and verifies every file. It
// may end before it has read the pack. The release appears whole or not at all. Repeating it is safe. A full disk gives
// ErrNoSpace, a pack that lacks or damages a file ErrPayload, a release of this
// name with other contents that is live or has processes in it ErrInUse; so does a
// toolchain of another recipe that a process runs from, or that a release on the host names.
func (a *Agent) PlacePut(ctx context.Context, in PutIn, pack io.Reader, say func(string)) (PutOut, error) {
	return call[PutOut](ctx, a, "place.put", in, pack, say)
}

// VerifyIn names a placed release, or a toolchain.
type VerifyIn struct {
	Kind    Kind   `json:"kind,omitempty"`
	Home    string `json:"home,omitempty"`
	Release string `json:"release"`
	// Digest, if set, is what the manifest's must be: another is a difference.
	Digest string `json:"digest,omitempty"`
	// Signed is whose signature the manifest must have; nil for none.
	Signed *Signed `json:"signed,omitempty"`
	// Links and Writable, if set, are those that it should have been placed with (see
	// PutIn): the record on the host, which says what need not be as in the manifest,
	// is held to them. Nil for what the record says.
	Links    map[string]string `json:"links,omitempty"`
	Writable []string          `json:"writable,omitempty"`
}

// VerifyOut is what was found.
type VerifyOut struct {
	Head
	// SignedBy is whose signature the manifest has, Unsigned why it has none that the
	// host accepts; both are empty if none was asked for.
	SignedBy string `json:"signed_by,omitempty"`
	Unsigned string `json:"unsigned,omitempty"`
	// Differences are the files that are not as the manifest says, at most 100.
	// Writable directories and shared links are left out of it. A bridged file is held
	// to the manifest of the release that it is of.
	Differences []Difference `json:"differences,omitempty"`
	// More counts the differences beyond those listed.
	More int `json:"more,omitempty"`
	// Unknown are bridged files of releases without a manifest, by release.
	Unknown map[string]int `json:"unknown,omitempty"`
}

// PlaceVerify hashes a release again and compares it with its manifest, and the
// manifest with what is asked for. It takes no file's word but the kernel's: owners and
// modes count too.
func (a *Agent) PlaceVerify(ctx context.Context, in VerifyIn, say func(string)) (VerifyOut, error) {
	return call[VerifyOut](ctx, a, "place.verify", in, nil, say)
}

// ManifestIn names a release, or any directory that holds .refit/manifest.json.
type ManifestIn struct {
	Home string `json:"home,omitempty"`
	// Release is a release's name, or an absolute path.
	Release string `json:"release"`
}

// Manifest says what the manifest of a release on the host is, ErrNotFound without
// one. The whole of it travels in packs alone.
func (a *Agent) Manifest(ctx context.Context, in ManifestIn) (Head, error) {
	return call[Head](ctx, a, "manifest.show", in, nil, nil)
}

// PackIn names files of a built release.
type PackIn struct {
	// Root is the release's directory on the builder.
	Root string `json:"root"`
	// Digest is the digest of the manifest that Indexes refer to. Another manifest
	// in Root gives ErrPayload.
	Digest string `json:"digest"`
	// Indexes are places in the manifest's Files, rising; none for the manifest alone.
	Indexes []int `json:"indexes"`
	// All stands in Indexes' place: every content, once.
	All bool `json:"all,omitempty"`
	// Base is a release that every receiver has: the manifest and the files are sent as
	// what differs from its. Nil for none.
	Base *Base `json:"base,omitempty"`
}

// Base is an older release that a pack begins from.
type Base struct {
	// Root is its directory on the builder. It is no part of a pack.
	Root string `json:"root,omitempty"`
	// Release is its name, under which receivers look for it, and Digest its manifest's.
	Release string `json:"release"`
	Digest  string `json:"digest"`
	// Without are paths in it, with all below, that a receiver's copy may have otherwise:
	// what is writable, and shared links.
	Without []string `json:"without,omitempty"`
}

// PackOut counts what was sent.
type PackOut struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

// Pack streams the manifest and the files named into w as PlaceWant and PlacePut
// read them. An error after the first byte leaves w with a part that they will
// refuse.
func (a *Agent) Pack(ctx context.Context, in PackIn, w io.Writer, say func(string)) (PackOut, error) {
	var out PackOut
	err := a.Stream(ctx, "pack", in, w, &out, say)
	return out, err
}

// BridgeIn names two releases on one host.
type BridgeIn struct {
	Home string `json:"home,omitempty"`
	From string `json:"from"`
	To   string `json:"to"`
	// Keep is how long the hashed assets of a release stay when it has given way to
	// another: To gets from From what From has of releases before it, and is not so old.
	Keep time.Duration `json:"keep_ns,omitempty"`
}

// BridgeOut counts the files added to each.
type BridgeOut struct {
	// ToFrom and ToTo count files added to the release From and to the release To;
	// 0 and 0 when they were bridged already.
	ToFrom int `json:"to_from"`
	ToTo   int `json:"to_to"`
}

// Bridge gives each of two releases the hashed assets of the other, so that a
// page of one finds its files at a node that runs the other. It adds files below
// public/packs and public/assets that are missing, never manifests, and never
// replaces one. What it added stands in .refit/bridged.json, with the release whose own
// it is; that release's manifest lies beside it, in .refit/bridged.
func (a *Agent) Bridge(ctx context.Context, in BridgeIn) (BridgeOut, error) {
	return call[BridgeOut](ctx, a, "bridge", in, nil, nil)
}

// SwitchIn names the release to go live.
type SwitchIn struct {
	Home    string `json:"home,omitempty"`
	Release string `json:"release"`
	// Digest, if set, is that of its manifest: another release of that name gives
	// ErrPayload, and live stays.
	Digest string `json:"digest,omitempty"`
}

// SwitchOut names the releases before and after.
type SwitchOut struct {
	// Old is empty where nothing was live.
	Old string `json:"old"`
	New string `json:"new"`
	// Changed is false when New was live already.
	Changed bool `json:"changed"`
}

// Switch points live at a release, in one rename, and makes that durable.
func (a *Agent) Switch(ctx context.Context, in SwitchIn) (SwitchOut, error) {
	return call[SwitchOut](ctx, a, "switch", in, nil, nil)
}

// PruneIn tells which releases stay.
type PruneIn struct {
	Home string `json:"home,omitempty"`
	// Keep are names of releases. The live one, and one that a process works in,
	// stay in any case.
	Keep []string `json:"keep"`
	// Dry only lists.
	Dry bool `json:"dry,omitempty"`
}

// PruneOut lists what went and what stayed though Keep does not name it.
type PruneOut struct {
	Removed []string `json:"removed"`
	// Toolchains are those that went: no release on the host runs with them any more.
	Toolchains []string `json:"toolchains,omitempty"`
	// Held maps a release that stayed to the reason: "live", "a process of
	// mastodon-web.service works in it (pid 812)".
	Held map[string]string `json:"held,omitempty"`
}

// Prune removes old releases, and toolchains with which none that stays runs.
func (a *Agent) Prune(ctx context.Context, in PruneIn, say func(string)) (PruneOut, error) {
	return call[PruneOut](ctx, a, "prune", in, nil, say)
}

// SweepIn tells what to look for.
type SweepIn struct {
	Home string `json:"home,omitempty"`
	// Run, when set, limits it to what that run left.
	Run string `json:"run,omitempty"`
	// Clear removes what was found and is not at work.
	Clear bool `json:"clear,omitempty"`
}

// Leftover is one thing that a run left behind.
type Leftover struct {
	// Kind is "placing" (half a release), "file" (a temporary file or link),
	// "job" (the record of a unit), "holder" (a verb's record without its process),
	// "agent" (an agent of another version, a week old).
	Kind string `json:"kind"`
	// Path is where it is; for a job Unit is set too.
	Path string `json:"path"`
	Unit string `json:"unit,omitempty"`
	// Run is the run that left it, where known.
	Run string `json:"run,omitempty"`
	// State is the job's state.
	State string `json:"state,omitempty"`
	// Since is when it was last touched.
	Since time.Time `json:"since"`
	// Active: it is at work now, so that Clear leaves it.
	Active bool `json:"active,omitempty"`
	// Cleared: it was removed.
	Cleared bool `json:"cleared,omitempty"`
}

// SweepOut is what was found.
type SweepOut struct {
	Items []Leftover `json:"items"`
}

// SweepShow lists what crashed runs left on the host. It changes nothing.
func (a *Agent) SweepShow(ctx context.Context, in SweepIn) (SweepOut, error) {
	in.Clear = false
	return call[SweepOut](ctx, a, "sweep.show", in, nil, nil)
}

// Sweep lists what crashed runs left on the host and, with Clear, removes it.
func (a *Agent) Sweep(ctx context.Context, in SweepIn) (SweepOut, error) {
	return call[SweepOut](ctx, a, "sweep", in, nil, nil)
}
