package identity

import (
	"context"
	"fmt"
)

// finishHere labels the nodes of the few edges that are left, in the process.
func (b *builder) finishHere(ctx context.Context, edges string) (string, error) {
	set, err := b.union(ctx, edges)
	if err != nil {
		return "", fmt.Errorf("reading the last edges: %w", err)
	}
	labels, err := b.create(ctx, "labels", fmt.Sprintf("SELECT CAST(NULL AS %[1]s) AS v, CAST(NULL AS %[1]s) AS label LIMIT 0", b.bigint()))
	if err != nil {
		return "", err
	}
	next, row := 0, make([]any, 2)
	_, err = b.w.Load(ctx, b.workTable("labels"), []string{"v", "label"}, func() ([]any, error) {
		if next == len(set.ids) {
			return nil, nil
		}
		row[0], row[1] = set.ids[next], set.ids[set.find(int32(next))]
		next++
		return row, nil
	})
	if err != nil {
		return "", fmt.Errorf("writing the last labels: %w", err)
	}
	return labels, nil
}

func (b *builder) union(ctx context.Context, edges string) (*unionFind, error) {
	set := &unionFind{index: map[int64]int32{}}
	err := b.each(ctx, "SELECT a, b FROM "+edges, func(edge []any) {
		x, _ := edge[0].(int64)
		y, _ := edge[1].(int64)
		set.join(x, y)
	})
	return set, err
}

// unionFind is a forest of nodes; a component's root is its smallest id, so that labels do not depend on the order of edges.
type unionFind struct {
	index  map[int64]int32
	ids    []int64
	parent []int32
}

func (u *unionFind) node(id int64) int32 {
	if i, ok := u.index[id]; ok {
		return i
	}
	i := int32(len(u.ids))
	u.index[id] = i
	u.ids = append(u.ids, id)
	u.parent = append(u.parent, i)
	return i
}

func (u *unionFind) find(i int32) int32 {
	for u.parent[i] != i {
		u.parent[i] = u.parent[u.parent[i]]
		i = u.parent[i]
	}
	return i
}

func (u *unionFind) join(x, y int64) {
	i, j := u.find(u.node(x)), u.find(u.node(y))
	switch {
	case i == j:
	case u.ids[i] < u.ids[j]:
		u.parent[j] = i
	default:
		u.parent[i] = j
	}
}
