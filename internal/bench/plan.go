package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// tries is how often each side runs; the best counts.
const tries = 3

// benchPlan compares the plan with the best hand-written statement in the same process, for an integer and for a text key.
func benchPlan(ctx context.Context, l *lab) ([]result, error) {
	var results []result
	for _, c := range []struct {
		key, barest, same string
	}{
		{"id", planByInteger(), planByIntegerWithFields()},
		{"email", planByText(), planByTextHash()},
	} {
		r, err := planOnce(ctx, l, c.key, c.barest, c.same)
		if err != nil {
			return results, err
		}
		results = append(results, r...)
	}
	return results, nil
}

func planOnce(ctx context.Context, l *lab, key, barest, same string) (results []result, err error) {
	n := l.rows(10_000_000)
	err = l.with(ctx, key, "http://127.0.0.1:9/never-called", n, func(e *engine) error {
		l.say("key %s: both snapshots", key)
		if _, err := e.Adopt(ctx, syncName); err != nil {
			return err
		}
		if err := referenceSnapshot(ctx, e.rec.Warehouse); err != nil {
			return err
		}
		if err := changeCustomers(ctx, e.rec.Warehouse); err != nil {
			return err
		}
		l.say("key %s: the hand-written statement", key)
		bare, err := bestOf(ctx, e.rec.Warehouse, tries, barest)
		if err != nil {
			return err
		}
		reference, err := bestOf(ctx, e.rec.Warehouse, tries, same)
		if err != nil {
			return err
		}
		l.say("key %s: Dray's plan", key)
		statement, whole, count, err := e.timePlan(ctx, int64(n))
		if err != nil {
			return err
		}
		what := fmt.Sprintf("plan %s rows × 12, 1 %% changed, %s key", short(n), map[string]string{"id": "integer", "email": "text"}[key])
		results = []result{
			atMost(what+": the statement", statement, reference, 1.1),
			shown(what+": against the barest, which does not know the changed fields", statement, bare),
			shown(fmt.Sprintf("%s: all of the plan (%d statements)", what, count), whole, reference),
		}
		return nil
	})
	return results, err
}

// timePlan is the best of some plans: the one statement that computes the difference, and everything the warehouse did.
func (e *engine) timePlan(ctx context.Context, n int64) (statement, whole time.Duration, count int, err error) {
	for i := range tries {
		e.rec.reset()
		p, err := e.plan(ctx)
		if err != nil {
			return 0, 0, 0, err
		}
		if p.Update != n/100 || p.Add+p.Remove != 0 {
			return 0, 0, 0, fmt.Errorf("the plan has %d adds, %d updates and %d removes, want %d updates", p.Add, p.Update, p.Remove, n/100)
		}
		all := e.rec.noted()
		took, _ := total(all)
		difference := longest(all, "FULL OUTER JOIN")
		if difference.took == 0 {
			return 0, 0, 0, fmt.Errorf("none of the %d statements joins model and snapshot", len(all))
		}
		if i == 0 || difference.took < statement {
			statement = difference.took
		}
		if i == 0 || took < whole {
			whole = took
		}
		count = len(all)
	}
	return statement, whole, count, nil
}

// longest is the statement with a word in it that took the longest.
func longest(statements []statement, word string) statement {
	var found statement
	for _, s := range statements {
		if strings.Contains(s.text, word) && s.took > found.took {
			found = s
		}
	}
	return found
}

// benchUnchanged counts what a plan and a run do when nothing changed, at two sizes: no row may leave, and the statements may
// not grow in number.
func benchUnchanged(ctx context.Context, l *lab) ([]result, error) {
	type counted struct {
		plan, run  int
		rows, sent int64
	}
	var counts []counted
	sizes := []int{l.rows(10_000), l.rows(1_000_000)}
	for _, n := range sizes {
		err := l.with(ctx, "id", "http://127.0.0.1:9/never-called", n, func(e *engine) error {
			if _, err := e.Adopt(ctx, syncName); err != nil {
				return err
			}
			var c counted
			e.rec.reset()
			if _, err := e.plan(ctx); err != nil {
				return err
			}
			c.plan = len(e.rec.noted())
			c.rows += customersOut(e.rec.noted())
			e.rec.reset()
			r, err := e.deliver(ctx)
			if err != nil {
				return err
			}
			c.run = len(e.rec.noted())
			c.rows += customersOut(e.rec.noted())
			c.sent = r.Requests
			counts = append(counts, c)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	small, large := counts[0], counts[1]
	return []result{
		{
			what: "nothing changed: rows that leave the warehouse", ours: fmt.Sprint(large.rows), reference: "", ratio: "",
			target: "0", met: large.rows == 0 && large.sent == 0,
		},
		{
			what: fmt.Sprintf("nothing changed: statements of plan and run at %s rows", short(sizes[1])), ours: fmt.Sprintf("%d + %d", large.plan, large.run),
			reference: fmt.Sprintf("%d + %d at %s", small.plan, small.run, short(sizes[0])), ratio: "", target: "constant",
			met: large.plan == small.plan && large.run == small.run,
		},
	}, nil
}

// customersOut counts rows that left the warehouse from statements over the customers' values. Counts, the lock, meta and
// approvals are Dray's own and as many for any number of customers.
func customersOut(statements []statement) int64 {
	var n int64
	for _, s := range statements {
		if s.rows > 0 && strings.Contains(s.text, "last_order_at") && !strings.Contains(s.text, "count(") {
			n += s.rows
		}
	}
	return n
}

// short writes 10000000 as 10 M.
func short(n int) string {
	switch {
	case n >= 1_000_000:
		return fmt.Sprintf("%g M", float64(n)/1e6)
	case n >= 1000:
		return fmt.Sprintf("%g k", float64(n)/1e3)
	default:
		return fmt.Sprint(n)
	}
}
