package db

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/vmthunder/vmthunder/db/model"
)

// Each column of a list of volumes is read into the field that is named after it.
func TestShownFieldsAreInOrder(t *testing.T) {
	var v model.Volume
	var names []string
	for column := range strings.SplitSeq(shownColumns, ",") {
		names = append(names, regexp.MustCompile(`\w+$`).FindString(strings.TrimSpace(column)))
	}
	fields := shownFields(&v)
	if len(fields) != len(names) {
		t.Fatalf("%d fields for %d columns", len(fields), len(names))
	}
	at := map[any]string{}
	row := reflect.ValueOf(&v).Elem()
	for i := range row.NumField() {
		at[row.Field(i).Addr().Interface()] = row.Type().Field(i).Tag.Get("db")
	}
	for i, f := range fields {
		if at[f] != names[i] {
			t.Errorf("column %s is read into %s", names[i], at[f])
		}
	}
}
