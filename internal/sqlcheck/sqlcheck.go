// Package sqlcheck reads the SQL that Dray writes for BigQuery with Google's own analyzer: names, types and signatures are resolved
// against the tables that a statement names. It is a module of its own, for the analyzer takes minutes and gigabytes to build.
//
// The analyzer is GoogleSQL's, which BigQuery is built on, and not BigQuery: it knows nothing of what BigQuery leaves out beside
// the language features that are switched off here, nor of its limits, its permissions, or what a transaction may hold.
package sqlcheck

import (
	"fmt"
	"strings"

	"github.com/goccy/go-googlesql"
)

// Entry is one line of a corpus, as connectors/warehouse/carried writes it.
type Entry struct {
	Dialect string  `json:"dialect"`
	SQL     string  `json:"sql"`
	Tables  []Table `json:"tables"`
}

// Table is one that a statement names.
type Table struct {
	Schema  string      `json:"schema"`
	Name    string      `json:"name"`
	Columns [][2]string `json:"columns"` // name, type
}

// Analyzer resolves statements. Not safe for concurrent use.
type Analyzer struct {
	builtin *googlesql.SimpleCatalog
	options *googlesql.AnalyzerOptions
	types   *googlesql.TypeFactory
	known   map[string]googlesql.Googlesql_TypeNode
}

// New starts the analyzer with BigQuery's language.
func New() (*Analyzer, error) {
	if err := googlesql.Init(); err != nil {
		return nil, err
	}
	language, err := googlesql.NewLanguageOptions()
	if err != nil {
		return nil, err
	}
	a := &Analyzer{known: map[string]googlesql.Googlesql_TypeNode{}}
	steps := []func() error{language.EnableMaximumLanguageFeatures}
	for _, feature := range lacking() { // before the functions are chosen by them
		steps = append(steps, func() error { return language.DisableLanguageFeature(feature) })
	}
	steps = append(steps,
		func() error { return language.SetProductMode(googlesql.ProductModeProductExternal) },
		language.SetSupportsAllStatementKinds,
		func() error { return language.EnableReservableKeyword("QUALIFY", true) },
		func() (err error) { a.types, err = googlesql.NewTypeFactory(); return err },
		func() (err error) { a.builtin, err = googlesql.NewSimpleCatalog("builtin", a.types); return err },
		func() error {
			return a.builtin.AddBuiltinFunctionsAndTypes(&googlesql.BuiltinFunctionOptions{LanguageOptions: language})
		},
		func() (err error) { a.options, err = googlesql.NewAnalyzerOptions2(); return err },
		func() error { return a.options.SetLanguage(language) },
	)
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// lacking are features of GoogleSQL that are not taken for granted of BigQuery: arrays and JSON are no values to compare, to group or to
// order by, texts are not joined with numbers, and time has microseconds.
func lacking() []googlesql.LanguageFeature {
	return []googlesql.LanguageFeature{
		googlesql.LanguageFeatureFeatureArrayEquality, googlesql.LanguageFeatureFeatureArrayOrdering, googlesql.LanguageFeatureFeatureGroupByArray,
		googlesql.LanguageFeatureFeatureTimestampNanos, googlesql.LanguageFeatureFeatureTimestampPicos, googlesql.LanguageFeatureFeatureJsonTypeComparison,
		googlesql.LanguageFeatureFeatureConcatMixedTypes, googlesql.LanguageFeatureFeatureV13ConcatMixedTypes,
		googlesql.LanguageFeatureFeatureV11ArrayEquality, googlesql.LanguageFeatureFeatureV13ArrayOrdering, googlesql.LanguageFeatureFeatureV12GroupByArray,
	}
}

// Check analyses a statement; the error says what is wrong with it.
func (a *Analyzer) Check(e Entry) error {
	catalog, err := a.catalog(e)
	if err != nil {
		return fmt.Errorf("the catalog: %w", err)
	}
	out, err := googlesql.AnalyzeStatement(e.SQL, a.options, catalog, a.types)
	if err != nil {
		return err
	}
	_, err = out.ResolvedStatement()
	return err
}

// catalog holds BigQuery's functions and a statement's tables, those of each dataset under its name.
func (a *Analyzer) catalog(e Entry) (googlesql.CatalogNode, error) {
	root, err := googlesql.NewSimpleCatalog("root", a.types)
	if err != nil {
		return nil, err
	}
	schemas := map[string]*googlesql.SimpleCatalog{}
	schema := func(name string) (*googlesql.SimpleCatalog, error) {
		if c, ok := schemas[name]; ok {
			return c, nil
		}
		c, err := googlesql.NewSimpleCatalog(name, a.types)
		if err != nil {
			return nil, err
		}
		schemas[name] = c
		information, err := googlesql.NewSimpleCatalog("INFORMATION_SCHEMA", a.types)
		if err != nil {
			return nil, err
		}
		if err := a.add(information, Table{Name: "TABLES", Columns: [][2]string{{"table_schema", "STRING"}, {"table_name", "STRING"}, {"table_type", "STRING"}}}); err != nil {
			return nil, err
		}
		if err := c.AddCatalog(information); err != nil {
			return nil, err
		}
		return c, root.AddCatalog(c)
	}
	for _, t := range e.Tables {
		c, err := schema(t.Schema)
		if err != nil {
			return nil, err
		}
		if err := a.add(c, t); err != nil {
			return nil, err
		}
		if t.Schema == "main" { // the default dataset
			if err := a.add(root, t); err != nil {
				return nil, err
			}
		}
	}
	if i := strings.Index(e.SQL, ".INFORMATION_SCHEMA"); i > 0 {
		name := e.SQL[:i]
		if _, err := schema(strings.Trim(name[strings.LastIndexByte(name, ' ')+1:], "`(")); err != nil {
			return nil, err
		}
	}
	return googlesql.NewMultiCatalogCreate("all", []googlesql.CatalogNode{root, a.builtin})
}

func (a *Analyzer) add(c *googlesql.SimpleCatalog, t Table) error {
	table, err := googlesql.NewSimpleTable(t.Name, 0)
	if err != nil {
		return err
	}
	for _, column := range t.Columns {
		typ, err := a.typeOf(column[1])
		if err != nil {
			return fmt.Errorf("%s.%s %s: %w", t.Name, column[0], column[1], err)
		}
		col, err := googlesql.NewSimpleColumn(t.Name, column[0], typ, false, true)
		if err != nil {
			return err
		}
		if err := table.AddColumn2(col, false); err != nil {
			return err
		}
	}
	return c.AddTable(table)
}

func (a *Analyzer) typeOf(name string) (googlesql.Googlesql_TypeNode, error) {
	if t, ok := a.known[name]; ok {
		return t, nil
	}
	t, err := googlesql.AnalyzeType(name, a.options, a.builtin, a.types)
	if err == nil {
		a.known[name] = t
	}
	return t, err
}
