package git_test

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/server"
	"github.com/go-git/go-git/v5/storage/memory"
)

// forge is a bare repository in this process, reached by http. It compares what a push
// says the branch is at with what it is at, as git's receive-pack does.
type forge struct {
	url   string
	store *memory.Storage
	git   transport.Transport
	at    *transport.Endpoint
	// blind leaves the comparison out: a flaw that the checks must find.
	blind bool

	// asks are requests that wait for their turn; nil lets each through at once.
	asks chan ask

	mu       sync.Mutex
	accepted []update
}

// update is a push that the forge took.
type update struct{ old, new plumbing.Hash }

// ask is one request of somebody, held until it is told what becomes of it.
type ask struct {
	who  string
	push bool
	turn chan fate
}

// fate is what becomes of a request.
type fate int

const (
	goes fate = iota
	// lost: it never arrives. unanswered: it arrives, and its answer is lost.
	lost
	unanswered
)

func newForge(t *testing.T) *forge {
	t.Helper()
	f := &forge{store: memory.NewStorage()}
	if err := f.store.SetReference(plumbing.NewSymbolicReference(plumbing.HEAD, "refs/heads/main")); err != nil {
		t.Fatal(err)
	}
	at, err := transport.NewEndpoint("file:///config.git")
	if err != nil {
		t.Fatal(err)
	}
	f.at, f.git = at, server.NewServer(server.MapLoader{at.String(): f.store})
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	f.url = srv.URL + "/config.git"
	return f
}

func (f *forge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, who, _ := r.BasicAuth()
	push := strings.HasSuffix(r.URL.Path, "/git-receive-pack")
	what := goes
	if f.asks != nil {
		a := ask{who, push, make(chan fate)}
		f.asks <- a
		what = <-a.turn
	}
	if what == lost {
		panic(http.ErrAbortHandler)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var err error
	switch {
	case strings.HasSuffix(r.URL.Path, "/info/refs"):
		err = f.advertise(w, r.URL.Query().Get("service"))
	case push:
		err = f.receive(w, r, what == unanswered)
	default:
		err = f.upload(w, r)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (f *forge) advertise(w http.ResponseWriter, service string) error {
	var session transport.Session
	up, err := f.git.NewUploadPackSession(f.at, nil)
	session = up
	if service == transport.ReceivePackServiceName {
		session, err = f.git.NewReceivePackSession(f.at, nil)
	}
	if err != nil {
		return err
	}
	refs, err := session.AdvertisedReferences()
	if err != nil {
		return err
	}
	refs.Prefix = [][]byte{[]byte("# service=" + service), pktline.Flush}
	return refs.Encode(w)
}

func (f *forge) upload(w http.ResponseWriter, r *http.Request) error {
	session, err := f.git.NewUploadPackSession(f.at, nil)
	if err != nil {
		return err
	}
	req := packp.NewUploadPackRequest()
	if err := req.Decode(r.Body); err != nil {
		return err
	}
	res, err := session.UploadPack(r.Context(), req)
	if err != nil {
		return err
	}
	return res.Encode(w)
}

func (f *forge) receive(w http.ResponseWriter, r *http.Request, silent bool) error {
	session, err := f.git.NewReceivePackSession(f.at, nil)
	if err != nil {
		return err
	}
	req := packp.NewReferenceUpdateRequest()
	if err := req.Decode(r.Body); err != nil {
		return err
	}
	if len(req.Commands) != 1 {
		return errors.New("one branch a push")
	}
	told := req.Commands[0]
	now := plumbing.ZeroHash
	if ref, err := f.store.Reference(told.Name); err == nil {
		now = ref.Hash()
	}
	if now != told.Old && !f.blind {
		report := &packp.ReportStatus{UnpackStatus: "ok", CommandStatuses: []*packp.CommandStatus{{ReferenceName: told.Name, Status: "failed to update ref"}}}
		if silent {
			panic(http.ErrAbortHandler)
		}
		return report.Encode(w)
	}
	report, err := session.ReceivePack(r.Context(), req)
	if err != nil {
		return err
	}
	f.accepted = append(f.accepted, update{now, told.New})
	if silent {
		panic(http.ErrAbortHandler)
	}
	return report.Encode(w)
}

// play runs everybody at once and lets one request through at a time, drawn by lot:
// the same seed is the same course. It ends when all have ended.
func (f *forge) play(seed uint64, everybody map[string]func()) {
	rng := rand.New(rand.NewPCG(seed, 9))
	f.asks = make(chan ask)
	ended := make(chan struct{})
	for _, do := range everybody {
		go func() {
			defer func() { ended <- struct{}{} }()
			do()
		}()
	}
	var waiting []ask
	for running := len(everybody); running > 0 || len(waiting) > 0; {
		for running > 0 { // until each of them waits or has ended
			select {
			case a := <-f.asks:
				waiting = append(waiting, a)
			case <-ended:
			}
			running--
		}
		if len(waiting) == 0 {
			break
		}
		slices.SortFunc(waiting, func(a, b ask) int { return strings.Compare(a.who, b.who) })
		i := rng.IntN(len(waiting))
		next := waiting[i]
		waiting = slices.Delete(waiting, i, i+1)
		what := goes
		if luck := rng.IntN(10); next.push && luck < 2 {
			what = []fate{lost, unanswered}[luck]
		}
		running++
		next.turn <- what
	}
	f.asks = nil
}
