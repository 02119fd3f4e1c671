{{/*
Fills in values that are null, which Helm removes: a section has its defaults, a list or mapping is empty. Each template
begins with it, because any of them may be rendered first.
*/}}
{{- define "gpu-sharing-plugin.fill" -}}
{{- include "gpu-sharing-plugin.fillSection" (dict "values" .Values "empty" (.Files.Get "files/empty.json" | fromJson)) }}
{{- end }}

{{- define "gpu-sharing-plugin.fillSection" -}}
{{- $values := .values }}
{{- range $key, $empty := .empty }}
{{- if or (not (hasKey $values $key)) (kindIs "invalid" (index $values $key)) }}{{ $_ := set $values $key $empty }}
{{- else if kindIs "map" $empty }}{{ include "gpu-sharing-plugin.fillSection" (dict "values" (get $values $key) "empty" $empty) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The chart's name in labels. */}}
{{- define "gpu-sharing-plugin.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/*
The name of the objects: at most 53 characters, the limit of a release's name, so that it is not cut and
two releases cannot get the same name. Ten characters remain for suffixes. No dots: a Service's name has none.
*/}}
{{- define "gpu-sharing-plugin.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- $full := .Values.fullnameOverride }}
{{- if not $full }}
{{- $full = contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- end }}
{{- $full | replace "." "-" | trunc 53 | trimSuffix "-" }}
{{- end }}

{{- define "gpu-sharing-plugin.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{/* The name of cluster-wide objects, with a digest of the namespace: releases there may have the same name. */}}
{{- define "gpu-sharing-plugin.clusterName" -}}
{{- $namespace := include "gpu-sharing-plugin.namespace" . }}
{{- printf "%s-%s" (include "gpu-sharing-plugin.fullname" .) ($namespace | sha256sum | trunc 8) }}
{{- end }}

{{- define "gpu-sharing-plugin.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "gpu-sharing-plugin.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* No version or anything else that an upgrade changes: the selector of a DaemonSet is immutable. */}}
{{- define "gpu-sharing-plugin.selectorLabels" -}}
{{- if .Values.selectorLabelsOverride }}
{{- toYaml .Values.selectorLabelsOverride }}
{{- else -}}
app.kubernetes.io/name: {{ include "gpu-sharing-plugin.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}
{{- end }}

{{- define "gpu-sharing-plugin.labels" -}}
{{ include "gpu-sharing-plugin.selectorLabels" . }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/*
The labels of the pods for MPS. The plugin's selector must not select them, nor theirs the plugin's: so the name, by
which the plugin's selector goes, is another one.
*/}}
{{- define "gpu-sharing-plugin.mpsSelectorLabels" -}}
{{- if .Values.selectorLabelsOverride }}
gpu-sharing-plugin/mps-of: {{ include "gpu-sharing-plugin.fullname" . | quote }}
{{- else -}}
app.kubernetes.io/name: {{ printf "%s-mps" (include "gpu-sharing-plugin.name" . | trunc 59 | trimSuffix "-") | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}
app.kubernetes.io/component: mps
{{- end }}

{{/* The metadata of an object: dict "root" $ "name" NAME, and optional labels and annotations. */}}
{{- define "gpu-sharing-plugin.metadata" -}}
metadata:
  name: {{ .name | quote }}
  namespace: {{ include "gpu-sharing-plugin.namespace" .root | quote }}
  labels:
    {{- include "gpu-sharing-plugin.labels" .root | nindent 4 }}
    {{- with .labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "gpu-sharing-plugin.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}
