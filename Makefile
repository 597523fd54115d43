.DEFAULT_GOAL := help
.PHONY: help demo test bench soak up down crds image rig-build

help: ## what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: ## Kubernetes, emulated AWS and the operator come up; the examples are applied and shown from AWS's side
	tests/rig/demo

test: ## everything: format, lints, tests, also on a real API server
	tests/all

bench: ## what the operator costs: size, memory, calls
	benches/run

soak: ## 20 minutes of random edits, faults, strangers and kills on 100 roles (SOAK_MINUTES, SOAK_ROLES, SOAK_SEED)
	benches/soak

up: ## start the rig: Kubernetes, emulated AWS and the operator, on loopback
	tests/rig/rig up

down: ## end the rig
	tests/rig/rig down

crds: ## write the CRDs from the types to where they are shipped, and the chart's schema from them
	cargo run --quiet -- crds --out crds --out charts/iamrole-operator/crds --out charts/iamrole-operator-crds/files
	UPDATE_DOCS=1 cargo test --quiet --test chart_values

image: ## build the container image and run what is in it
	hack/image

rig-build: ## only make the rig's binaries
	tests/rig/rig build
