package main

import (
	"testing"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages"
)

func TestHowARunEndedDecidesTheCode(t *testing.T) {
	clean, migrated := &stages.Facts{}, &stages.Facts{Applied: []builds.Migration{{Version: "20260101000000"}}}
	for name, test := range map[string]struct {
		res   pipeline.Result
		facts *stages.Facts
		want  int
	}{
		"done":                              {pipeline.Result{Status: pipeline.Done, Touched: true}, migrated, exitDone},
		"undone before a node was switched": {pipeline.Result{Status: pipeline.Undone}, clean, exitFailed},
		"undone after a node was switched":  {pipeline.Result{Status: pipeline.Undone, Touched: true}, clean, exitUndone},
		"undone with a migration applied":   {pipeline.Result{Status: pipeline.Undone}, migrated, exitUndone},
		"taken back because asked":          {pipeline.Result{Status: pipeline.Undone, Touched: true, Asked: true}, migrated, exitDone},
		"refused":                           {pipeline.Result{Status: pipeline.Refused}, clean, exitRefused},
		"stopped":                           {pipeline.Result{Status: pipeline.Stopped, Touched: true}, clean, exitInterrupted},
		"aborted":                           {pipeline.Result{Status: pipeline.Interrupted}, clean, exitInterrupted},
		"a person":                          {pipeline.Result{Status: pipeline.Person}, clean, exitPerson},
		"lease lost":                        {pipeline.Result{Status: pipeline.LostLock}, clean, exitPerson},
		"journal lost before a switch":      {pipeline.Result{Status: pipeline.LostJournal}, clean, exitFailed},
		"journal lost after a switch":       {pipeline.Result{Status: pipeline.LostJournal, Touched: true}, clean, exitPerson},
		"journal lost after a migration":    {pipeline.Result{Status: pipeline.LostJournal}, migrated, exitPerson},
		"a status that is not known":        {pipeline.Result{Status: "odd"}, clean, exitPerson},
	} {
		if got := codeOf(test.res, test.facts); got != test.want {
			t.Errorf("%s: code %d, want %d", name, got, test.want)
		}
	}
}

// halfDone is the journal of a run that ended in its second step.
func halfDone() *pipeline.Journal {
	j := &pipeline.Journal{
		Format: pipeline.JournalFormat, ID: "20260101-000000-abcde", Kind: "upgrade", From: "v4.5.13", To: "v4.5.15",
		Epoch: 3, Seq: 4, Created: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Direction: pipeline.Forward,
		Steps: []pipeline.JournalStep{{Name: "place"}, {Name: "roll web kirk", Host: "kirk", Switches: true}, {Name: "roll web spock", Host: "spock", Switches: true}},
		Marks: map[string]pipeline.Mark{"place": {State: pipeline.Finish}, "roll web kirk": {State: pipeline.Doing}},
	}
	return j
}

func TestAJournalIsToldInWords(t *testing.T) {
	for want, change := range map[string]func(*pipeline.Journal){
		"roll web kirk is doing": func(*pipeline.Journal) {},
		"nothing had begun":      func(j *pipeline.Journal) { j.Marks = nil },
		"done":                   func(j *pipeline.Journal) { j.Outcome = pipeline.Done },
		"roll web kirk is doing, on the way back":       func(j *pipeline.Journal) { j.Direction = pipeline.Backward },
		"roll web kirk is doing; an index is half made": func(j *pipeline.Journal) { j.State = "an index is half made" },
	} {
		j := halfDone()
		change(j)
		if got := standingOf(j); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestARunIsHalfWayUntilItHasEnded(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*pipeline.Journal)
		want   bool
	}{
		"crashed":                 {func(*pipeline.Journal) {}, true},
		"crashed before a switch": {func(j *pipeline.Journal) { delete(j.Marks, "roll web kirk") }, true},
		"stopped after a switch":  {func(j *pipeline.Journal) { j.Outcome = pipeline.Stopped }, true},
		"stopped before a switch": {func(j *pipeline.Journal) { j.Outcome = pipeline.Stopped; delete(j.Marks, "roll web kirk") }, false},
		"done":                    {func(j *pipeline.Journal) { j.Outcome = pipeline.Done }, false},
		"taken back":              {func(j *pipeline.Journal) { j.Outcome = pipeline.Undone }, false},
		"a person was asked for":  {func(j *pipeline.Journal) { j.Outcome = pipeline.Person }, true},
	} {
		j := halfDone()
		test.change(j)
		if got := halfWay(j); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestTheWayBackNamesWhatHasBegunTheLastFirst(t *testing.T) {
	j := halfDone()
	j.Marks["roll web spock"] = pipeline.Mark{State: pipeline.Back}
	var got []string
	for _, step := range goesBack(j) {
		got = append(got, step.Name)
	}
	if len(got) != 2 || got[0] != "roll web kirk" || got[1] != "place" {
		t.Error(got)
	}
}
