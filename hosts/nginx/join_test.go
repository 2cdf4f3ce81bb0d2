package nginx

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const theNew = "10.77.0.121"

func (f *fake) joins(address, like string) JoinIn {
	return JoinIn{Files: f.files, Address: address, Like: like, Within: 50 * time.Millisecond}
}

func TestANewNodeJoinsBothUpstreamsDownWithOneReload(t *testing.T) {
	f := newFake(t)
	out, err := f.proxy(t).join(context.Background(), f.joins(theNew, theNode), quiet)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(webUp, "max_fails=0;\n", "max_fails=0;\nserver 10.77.0.121:3000 max_fails=0 down;\n", 1) +
		strings.Replace(streamUp, "max_fails=0;\n", "max_fails=0;\nserver 10.77.0.121:4000 max_fails=0 down;\n", 1)
	if diff := cmp.Diff(want, f.loaded); diff != "" {
		t.Error(diff)
	}
	if down, known := (UpstreamOut{out.Files}).Down(theNew); !down || !known || !out.Changed || f.reloads != 1 {
		t.Errorf("down %v, known %v, %+v, %d reloads", down, known, out, f.reloads)
	}
}

func TestANodeThatStandsThereAlreadyKeepsItsStateAndIsNotLoadedAgain(t *testing.T) {
	f := newFake(t)
	p := f.proxy(t)
	if _, err := p.join(context.Background(), f.joins(theNew, theNode), quiet); err != nil {
		t.Fatal(err)
	}
	if _, err := p.set(context.Background(), SetIn{Files: f.files, Address: theNew, Within: 50 * time.Millisecond}, quiet); err != nil {
		t.Fatal(err)
	}
	out, err := p.join(context.Background(), f.joins(theNew, theNode), quiet)
	if err != nil || out.Changed || f.reloads != 2 {
		t.Errorf("%+v, %v, %d reloads", out, err, f.reloads)
	}
	if down, known := (UpstreamOut{out.Files}).Down(theNew); down || !known {
		t.Errorf("down %v, known %v", down, known)
	}
}

func TestWhatHasNoModelOrNoAddressJoinsNothing(t *testing.T) {
	for name, in := range map[string][2]string{
		"no model":   {theNew, "10.77.0.99"},
		"a name":     {"kirk", theNode},
		"a config":   {"10.0.0.1; include /etc/passwd", theNode},
		"no address": {"", theNode},
	} {
		f := newFake(t)
		_, err := f.proxy(t).join(context.Background(), f.joins(in[0], in[1]), quiet)
		if err == nil || f.reloads != 0 || f.texts(t) != webUp+streamUp {
			t.Errorf("%s: %v, %d reloads, %q", name, err, f.reloads, f.texts(t))
		}
	}
}

func TestANodeThatIsUpCannotLeave(t *testing.T) {
	f := newFake(t)
	_, err := f.proxy(t).leave(context.Background(), LeaveIn{Files: f.files, Address: theNode}, quiet)
	if err == nil || !strings.Contains(err.Error(), "mark it down first") || f.texts(t) != webUp+streamUp {
		t.Errorf("%v, %q", err, f.texts(t))
	}
	if _, err := mustParse(t, webUp).Leave(theNode); !errors.Is(err, ErrServes) {
		t.Errorf("got %v", err)
	}
}

func TestANodeThatIsDownLeavesAndOneThatIsGoneIsGone(t *testing.T) {
	f := newFake(t)
	p := f.proxy(t)
	if _, err := p.set(context.Background(), f.in(true), quiet); err != nil {
		t.Fatal(err)
	}
	for i, changed := range []bool{true, false} {
		out, err := p.leave(context.Background(), LeaveIn{Files: f.files, Address: theNode, Within: 50 * time.Millisecond}, quiet)
		if err != nil || out.Changed != changed || f.reloads != 2 {
			t.Errorf("%d: %+v, %v, %d reloads", i, out, err, f.reloads)
		}
	}
	if strings.Contains(f.loaded, theNode) || !strings.Contains(f.loaded, "10.77.0.22:3000") {
		t.Errorf("loaded %q", f.loaded)
	}
}

func TestANodeWithSeveralStreamingPortsJoinsWithAllOfThemAndTheirParameters(t *testing.T) {
	inc := mustParse(t, "# two ports\n  server 10.0.0.1:4000 max_fails=0 weight=2; # the first\n  server 10.0.0.1:4001;\nserver 10.0.0.2:4000 down;\n")
	if _, err := inc.Join("10.0.0.3", "10.0.0.1"); err != nil {
		t.Fatal(err)
	}
	want := "# two ports\n  server 10.0.0.1:4000 max_fails=0 weight=2; # the first\n  server 10.0.0.1:4001;\n" +
		"  server 10.0.0.3:4000 max_fails=0 weight=2 down;\n  server 10.0.0.3:4001 down;\nserver 10.0.0.2:4000 down;\n"
	if diff := cmp.Diff(want, inc.Render()); diff != "" {
		t.Error(diff)
	}
	again, err := ParseInclude("again", inc.Render())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(again.Servers(), inc.Servers()); diff != "" {
		t.Error(diff)
	}
}

func mustParse(t *testing.T, text string) *Include {
	t.Helper()
	inc, err := ParseInclude("a file", text)
	if err != nil {
		t.Fatal(err)
	}
	return inc
}
