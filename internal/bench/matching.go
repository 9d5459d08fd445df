package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dray-dev/dray/config"
	"github.com/dray-dev/dray/connectors/registry"
	"github.com/dray-dev/dray/connectors/warehouse"
	"github.com/dray-dev/dray/models/identity"
)

// people is a public set of records of people with the truth of who is who.
type people struct {
	name, file string
	truth      string // SQL: who a record is of
	equal      []*config.Match
	likely     *config.Match
	// reported is the best F1 that others report of the set, by the same measure (pairs of the transitive closure), with a model that is
	// fitted without labels.
	reported string
}

// peopleFolder is where the sets are, beside the project: they are not part of it.
const peopleFolder = "../shared/data/people"

func peopleSets() []people {
	column := func(names ...string) []*config.Comparison {
		var out []*config.Comparison
		for _, name := range names {
			out = append(out, &config.Comparison{Column: name})
		}
		return out
	}
	return []people{
		// Splink's F1 is from a comparison at its best of many thresholds, which is chosen by the truth
		// (github.com/4ment/cpplink, bench/README.md at 45f385d); ours is at the default threshold. Another comparison has Splink at 0.965 and
		// GoldenMatch at 0.991 on FEBRL 3 (github.com/benseverndev-oss/goldenmatch, pull request 831), another the Python Record Linkage
		// Toolkit at 0.879 (github.com/finite-sample/preclink, README).
		{
			// FEBRL's third set: 5,000 records of 2,000 people. What is compared, and by which keys, is from Splink's example of the set
			// (docs/demos/examples/duckdb/febrl3.ipynb at 406f630), its levels and everything else are the defaults here.
			name: "FEBRL 3", reported: "Splink's 0.999", file: "dataset3.csv", truth: "regexp_extract(rec_id, '^(rec-[0-9]+)', 1)",
			equal: []*config.Match{{Name: "number", On: []string{"soc_sec_id"}}, {Name: "name", On: []string{"given_name", "surname", "date_of_birth"}}},
			likely: &config.Match{
				Name: "likely", Block: []config.Strings{{"soc_sec_id"}, {"given_name"}, {"surname"}, {"date_of_birth"}, {"postcode"}},
				Probability: &config.Probability{Compare: column("given_name", "surname", "date_of_birth", "soc_sec_id", "street_number", "postcode"), Threshold: 0.95},
			},
		},
		{
			// Splink's own set of 1,000 made records.
			name: "fake_1000", reported: "Splink's 0.902", file: "fake_1000.csv", truth: "_cluster",
			equal: []*config.Match{{Name: "mail", On: []string{"email"}}, {Name: "name", On: []string{"first_name", "surname", "dob"}}},
			likely: &config.Match{
				Name: "likely", Block: []config.Strings{{"first_name"}, {"surname"}, {"dob"}, {"email"}},
				Probability: &config.Probability{Compare: column("first_name", "surname", "dob", "city", "email"), Threshold: 0.95},
			},
		},
	}
}

// benchMatching shows how well rules find who is who in public sets: pairwise precision, recall and F1 of the profiles.
func benchMatching(ctx context.Context, l *lab) ([]result, error) {
	var results []result
	for _, set := range peopleSets() {
		path, err := filepath.Abs(filepath.Join(peopleFolder, set.file))
		if err != nil {
			return results, err
		}
		if _, err := os.Stat(path); err != nil {
			l.say("%s is not measured: there is no %s in %s", set.name, set.file, peopleFolder)
			continue
		}
		for _, rules := range []struct {
			what  string
			rules []*config.Match
		}{{"equal columns", set.equal}, {"probability, by default", []*config.Match{set.likely}}} {
			r, err := matchOnce(ctx, l, set, rules.what, path, rules.rules)
			if err != nil {
				return results, fmt.Errorf("%s: %w", set.name, err)
			}
			results = append(results, r)
		}
	}
	return results, nil
}

func matchOnce(ctx context.Context, l *lab, set people, what, path string, rules []*config.Match) (r result, err error) {
	w, err := registry.OpenWarehouse(ctx, "duckdb", map[string]any{"path": ":memory:"}, l.dir)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if _, err := w.Exec(ctx, "CREATE TABLE people AS SELECT row_number() OVER () AS record, *, "+set.truth+" AS truth FROM read_csv("+w.Dialect().Text(path)+", all_varchar = true, normalize_names = true)"); err != nil {
		return result{}, err
	}
	in := &config.Input{Name: "people", From: "people", Identifiers: map[string]string{"record": "record"}}
	target, merges := warehouse.Table{Name: "identity_customer"}, warehouse.Table{Name: "identity_customer_merges"}
	began := time.Now()
	_, err = identity.Build(ctx, w, identity.Spec{
		Entity: &config.Entity{Name: "customer", Identifiers: []*config.Identifier{{Name: "record"}}, Inputs: []*config.Input{in}, Match: rules},
		Inputs: []identity.Input{{Input: in, Source: "people"}}, Target: target, Merges: merges, Prior: target, PriorMerges: merges, AsOf: time.Now(), Salt: "bench",
	})
	if err != nil {
		return result{}, err
	}
	took := time.Since(began)
	pairs := func(by string) (float64, error) {
		n, err := count(ctx, w, `SELECT CAST(coalesce(sum(n * (n - 1) / 2), 0) AS BIGINT) FROM (SELECT count(*) AS n FROM people AS p JOIN identity_customer AS i
	ON i.identifier = 'record' AND i.value = CAST(p.record AS VARCHAR) GROUP BY `+by+`) AS s`)
		return float64(n), err
	}
	var found, there, right float64
	for _, x := range []struct {
		into *float64
		by   string
	}{{&found, "profile_id"}, {&there, "truth"}, {&right, "profile_id, truth"}} {
		if *x.into, err = pairs(x.by); err != nil {
			return result{}, err
		}
	}
	precision, recall := right/max(found, 1), right/max(there, 1)
	return result{
		what: fmt.Sprintf("who is who in %s by %s, %s", set.name, what, round(took)), ours: fmt.Sprintf("F1 %.3f", 2*precision*recall/max(precision+recall, 1e-9)),
		reference: set.reported, ratio: fmt.Sprintf("precision %.3f, recall %.3f", precision, recall), target: "shown", met: true,
	}, nil
}
