package wire

import (
	"os"

	v3 "github.com/vmthunder/vmthunder/api/v3"
	"github.com/vmthunder/vmthunder/cmd/internal/config"
)

// Filters reads the operator's file of what lists may be filtered by; nil: the default ones.
func Filters(c *config.Config) ([]v3.ResourceFilter, error) {
	if c.FiltersFile == "" {
		return nil, nil
	}
	file, err := os.Open(c.FiltersFile)
	if err != nil {
		return nil, configError("[DEFAULT] resource_query_filters_file: %w", err)
	}
	defer func() { _ = file.Close() }()
	filters, err := v3.ReadFilters(file)
	if err != nil {
		return nil, configError("[DEFAULT] resource_query_filters_file %s: %w", c.FiltersFile, err)
	}
	return filters, nil
}
