// Package bench rolls the lab's fleet from one release to another by refit, by a
// careful hand and by other tools, on the same lab and the same artifact, and counts
// what each way costs: time, rotation, bytes, memory, connections, and what users
// meet meanwhile.
//
// run.go is what happens, in order. The other ways stand in testdata/lab/bench;
// contender.go starts them. Whatever is measured is seen from outside the hosts
// (meter.go), the same way for all.
package bench

import (
	"fmt"
	"slices"
	"strings"
)

// Base is the release that every roll begins with.
const Base = "v4.5.20"

// targets are the releases that each kind of roll ends with.
var targets = map[string]string{"patch": "v4.5.21", "minor": "v4.6.20"}

// Free is the link without a limit.
const Free = "free"

// Case is one thing that is compared: a kind of roll over links of one speed.
type Case struct {
	// Kind is "patch", or "minor" for one with migrations.
	Kind string `json:"kind"`
	// Link is Free, or the rate of the link of every node and of the builder, as tc
	// writes it: "100mbit".
	Link string `json:"link"`
}

// From and To are the releases of the case's rolls.
func (Case) From() string { return Base }

// To is the release that the case's rolls end with.
func (c Case) To() string { return targets[c.Kind] }

func (c Case) String() string { return c.Kind + " " + c.From() + " → " + c.To() + ", link " + c.Link }

// What a whole bench compares.
var (
	kinds      = []string{"patch", "minor"}
	links      = []string{Free, "100mbit"}
	contenders = []string{Refit, Hand, Capistrano, Ansible}
)

// Choice is what is to be compared. Empty lists stand for all there is.
type Choice struct {
	Only  []string `json:"contenders"`
	Kinds []string `json:"kinds"`
	Links []string `json:"links"`
	// Rounds is how often each roll is done, the contenders taking turns; 0 for 3.
	Rounds int `json:"rounds"`
}

// Fill replaces what is empty by all there is, and refuses what is not known.
func (c Choice) Fill() (Choice, error) {
	all := func(chosen *[]string, known []string, what string) error {
		if len(*chosen) == 0 {
			*chosen = known
		}
		for _, name := range *chosen {
			if !slices.Contains(known, name) {
				return fmt.Errorf("%q is no %s; there are %s", name, what, strings.Join(known, ", "))
			}
		}
		return nil
	}
	if c.Rounds == 0 {
		c.Rounds = 3
	}
	if c.Rounds < 0 {
		return c, fmt.Errorf("%d rounds are none", c.Rounds)
	}
	if err := all(&c.Only, contenders, "contender"); err != nil {
		return c, err
	}
	if err := all(&c.Kinds, kinds, "kind"); err != nil {
		return c, err
	}
	if len(c.Links) == 0 {
		c.Links = links
	}
	for _, link := range c.Links {
		if link != Free && !strings.ContainsAny(link, "0123456789") {
			return c, fmt.Errorf("%q is neither %s nor a rate such as 100mbit", link, Free)
		}
	}
	return c, nil
}

// cases are the choice's, in their order.
func (c Choice) cases() []Case {
	var out []Case
	for _, kind := range c.Kinds {
		for _, link := range c.Links {
			out = append(out, Case{kind, link})
		}
	}
	return out
}

// order is that of the contenders in a round: each round begins with another one, so
// that no one always comes first.
func (c Choice) order(round int) []string {
	n := round % len(c.Only)
	return slices.Concat(c.Only[n:], c.Only[:n])
}
