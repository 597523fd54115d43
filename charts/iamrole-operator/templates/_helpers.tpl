{{- define "iamrole-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "iamrole-operator.fullname" -}}
{{- $name := include "iamrole-operator.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | replace "." "-" | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" (.Release.Name | replace "." "-") $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "iamrole-operator.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{/* Two operators without an election would both work. */}}
{{- define "iamrole-operator.replicas" -}}
{{- if and (gt (int .Values.replicas) 1) (not .Values.leaderElection) }}
{{- fail (printf "replicas is %d: more than one needs leaderElection=true, or two operators would work at once" (int .Values.replicas)) }}
{{- end }}
{{- int .Values.replicas }}
{{- end }}

{{- define "iamrole-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "iamrole-operator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* Not those that select the operator's pods: for the pod of `helm test`. */}}
{{- define "iamrole-operator.testLabels" -}}
app.kubernetes.io/name: {{ printf "%s-test" (include "iamrole-operator.name" . | trunc 58 | trimSuffix "-") | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* A map without its nulls: with --reuse-values Helm hands over those that take a default out. */}}
{{- define "iamrole-operator.present" -}}
{{- $kept := dict }}
{{- range $key, $value := . }}
{{- if kindIs "map" $value }}
{{- $_ := set $kept $key (include "iamrole-operator.present" $value | fromYaml) }}
{{- else if not (kindIs "invalid" $value) }}
{{- $_ := set $kept $key $value }}
{{- end }}
{{- end }}
{{- toYaml $kept }}
{{- end }}

{{- define "iamrole-operator.labels" -}}
{{- $own := include "iamrole-operator.selectorLabels" . | fromYaml }}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") }}
{{- $_ := set $own "app.kubernetes.io/version" (.Chart.AppVersion | replace "+" "_" | trunc 63 | trimSuffix "-") }}
{{- $_ := set $own "app.kubernetes.io/managed-by" .Release.Service }}
{{- toYaml (merge $own (.Values.commonLabels | default dict)) }}
{{- end }}

{{/*
Metadata of an object: dict "root" $ "name" NAME, and "namespace", "labels",
"annotations" where it has some. What it says itself wins over what all have.
*/}}
{{- define "iamrole-operator.metadata" -}}
{{- $labels := include "iamrole-operator.labels" .root | fromYaml -}}
name: {{ .name | quote }}
{{- with .namespace }}
namespace: {{ . | quote }}
{{- end }}
labels:
  {{- merge $labels (.labels | default dict) | toYaml | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) (.root.Values.commonAnnotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "iamrole-operator.serviceAccountName" -}}
{{- $default := ternary (include "iamrole-operator.fullname" .) "default" .Values.serviceAccount.create }}
{{- default $default .Values.serviceAccount.name }}
{{- end }}

{{/*
The image. A digest wins over the tag; global.imageRegistry takes the place of
the repository's first part where that is a host (as in docker: it has a dot or
a colon, or is "localhost").
*/}}
{{- define "iamrole-operator.image" -}}
{{- $repository := .Values.image.repository }}
{{- with (.Values.global).imageRegistry }}
{{- $parts := splitList "/" $repository }}
{{- $first := first $parts }}
{{- if and (gt (len $parts) 1) (or (contains "." $first) (contains ":" $first) (eq "localhost" $first)) }}
{{- $repository = join "/" (rest $parts) }}
{{- end }}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) $repository }}
{{- end }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" $repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* What the pod of the operator and that of `helm test` have in common. */}}
{{- define "iamrole-operator.pod" -}}
serviceAccountName: {{ include "iamrole-operator.serviceAccountName" . | quote }}
automountServiceAccountToken: true
# No variables for the namespace's Services: theirs could begin with IAMROLE_ too.
enableServiceLinks: false
{{- with concat (.Values.imagePullSecrets | default list) ((.Values.global).imagePullSecrets | default list) | uniq }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.extraVolumes }}
volumes:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* And their containers. */}}
{{- define "iamrole-operator.container" -}}
image: {{ include "iamrole-operator.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  - name: AWS_REGION
    value: {{ .Values.aws.region | quote }}
  {{- if .Values.aws.metadataDisabled }}
  - name: AWS_EC2_METADATA_DISABLED
    value: "true"
  {{- end }}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.extraVolumeMounts }}
volumeMounts:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The constraints, each with a selector. */}}
{{- define "iamrole-operator.spread" -}}
{{- $constraints := list }}
{{- range .Values.topologySpreadConstraints }}
{{- $selector := dict "matchLabels" (include "iamrole-operator.selectorLabels" $ | fromYaml) }}
{{- $constraints = append $constraints (set (deepCopy .) "labelSelector" (default $selector .labelSelector)) }}
{{- end }}
{{- toYaml $constraints }}
{{- end }}

{{/* What the operator does with IamRoles and Events: everywhere, or only in the watched namespaces. */}}
{{- define "iamrole-operator.namespacedRules" -}}
- apiGroups: [iamrole.dev]
  resources: [iamroles]
  verbs: [get, list, watch, patch]
- apiGroups: [iamrole.dev]
  resources: [iamroles/status]
  verbs: [update]
{{- if (.Values.workloadIdentity).annotateServiceAccounts }}
# Their metadata, and annotations on those that IamRoles list.
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, list, watch, patch]
{{- end }}
{{- if (.Values.workloadIdentity).checkPods }}
# Those that run and have no credentials.
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
{{- end }}
{{ include "iamrole-operator.eventRules" . }}
{{- end }}

{{- define "iamrole-operator.eventRules" -}}
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}

{{/* A binding of a role of that kind and name: dict "root" $ "kind" KIND "name" NAME, and "namespace". */}}
{{- define "iamrole-operator.binding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}Binding
metadata:
  {{- include "iamrole-operator.metadata" . | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .kind }}
  name: {{ .name | quote }}
subjects:
  - kind: ServiceAccount
    name: {{ include "iamrole-operator.serviceAccountName" .root | quote }}
    namespace: {{ include "iamrole-operator.namespace" .root | quote }}
{{- end }}
