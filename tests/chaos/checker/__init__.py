"""The independent checker: reads buckets, destination and logs, and holds the invariants. It shares no code with the
package, so that an error of the package is not an error of the checker too."""
