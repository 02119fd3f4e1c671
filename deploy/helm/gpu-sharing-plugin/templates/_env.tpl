{{/*
The variables that both services get, as YAML: with different ones they would plan different devices.
*/}}
{{- define "gpu-sharing-plugin.ofBoth" -}}
{{- $given := dict
  "NVIDIA_DRIVER_RESOURCE_CONFIG" .Values.resourceConfig
  "PASS_DEVICE_SPECS" .Values.compatWithCPUManager
  "MIG_STRATEGY" .Values.migStrategy
  "FAIL_ON_INIT_ERROR" .Values.failOnInitError
  "DEVICE_LIST_STRATEGY" .Values.deviceListStrategy
  "DEVICE_ID_STRATEGY" .Values.deviceIDStrategy
  "SHARED_DEVICES_ALLOCATION_POLICY" .Values.sharedDevicesAllocationPolicy
  "NVIDIA_DRIVER_ROOT" .Values.nvidiaDriverRoot
  "NVIDIA_DEV_ROOT" .Values.nvidiaDevRoot
  "GDRCOPY_ENABLED" .Values.gdrcopyEnabled
  "GDS_ENABLED" .Values.gdsEnabled
  "MOFED_ENABLED" .Values.mofedEnabled
  "DEVICE_DISCOVERY_STRATEGY" .Values.deviceDiscoveryStrategy
  "NVIDIA_CDI_HOOK_PATH" .Values.cdi.nvidiaHookPath
  "CDI_FEATURE_FLAGS" .Values.cdi.featureFlags
  "CDI_DISABLE_HOOKS" .Values.cdi.disableHooks
  "CDI_ANNOTATION_PREFIX" .Values.cdi.annotationPrefix
  "CDI_KIND" .Values.cdi.kind
  "IMEX_CHANNEL_IDS" .Values.imex.channelIDs
  "IMEX_REQUIRED" .Values.imex.required
  "LOG_FORMAT" .Values.logFormat
  "LOG_LEVEL" .Values.logLevel
}}
{{- if has "mig" (splitList " " (include "gpu-sharing-plugin.needs" .)) }}{{ $_ := set $given "NVIDIA_MIG_MONITOR_DEVICES" "all" }}{{ end }}
{{- if include "gpu-sharing-plugin.configMapName" . }}
{{- $_ := set $given "CONFIG_DIR" "/config" }}
{{- $_ := set $given "CONFIG_LABEL" .Values.config.label }}
{{- $_ := set $given "CONFIG_DEFAULT" .Values.config.default }}
{{- $_ := set $given "CONFIG_FALLBACK_STRATEGIES" .Values.config.fallbackStrategies }}
{{- else if include "gpu-sharing-plugin.settings" . }}
{{- $_ := set $given "CONFIG_FILE" "/config/config.yaml" }}
{{- end }}
{{- if include "gpu-sharing-plugin.mps" . }}{{ $_ := set $given "MPS_ROOT" .Values.mps.root }}{{ end }}
{{- toYaml $given }}
{{- end }}

{{/* A mapping as environment variables; false counts as set, null and "" do not. */}}
{{- define "gpu-sharing-plugin.variables" -}}
{{- range $name, $value := . }}
{{- if not (kindIs "invalid" $value) }}
{{- with include "gpu-sharing-plugin.commas" $value }}
- name: {{ $name }}
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The variables of the plugin. */}}
{{- define "gpu-sharing-plugin.given" -}}
{{- $given := include "gpu-sharing-plugin.ofBoth" . | fromYaml }}
{{- if ne (int .Values.metrics.port) 9450 }}{{ $_ := set $given "METRICS_ADDRESS" (printf ":%d" (int .Values.metrics.port)) }}{{ end }}
{{- $hosts := .Values.metrics.allowedHosts }}
{{- if include "gpu-sharing-plugin.hasService" . }}
{{- $name := printf "%s-metrics" (include "gpu-sharing-plugin.fullname" .) }}
{{- $namespace := include "gpu-sharing-plugin.namespace" . }}
{{- range $end := list "" (printf ".%s" $namespace) (printf ".%s.svc" $namespace) (printf ".%s.svc.cluster.local" $namespace) }}
{{- $hosts = append $hosts (printf "%s%s" $name $end) }}
{{- end }}
{{- end }}
{{- $_ := set $given "METRICS_ALLOWED_HOSTS" $hosts }}
{{- with .Values.metrics.tls }}
{{- if .secret }}
{{- $_ := set $given "METRICS_TLS_CERT" "/tls/tls.crt" }}
{{- $_ := set $given "METRICS_TLS_KEY" "/tls/tls.key" }}
{{- if .clientCA }}{{ $_ := set $given "METRICS_CLIENT_CA" (printf "/tls/%s" .clientCA) }}{{ end }}
{{- end }}
{{- end }}
{{- with .Values.metrics.tokenSecret }}
{{- if .name }}{{ $_ := set $given "METRICS_TOKEN_FILE" (printf "/token/%s" .key) }}{{ end }}
{{- end }}
{{- if not .Values.metrics.podLabels }}{{ $_ := set $given "POD_LABELS" "false" }}{{ end }}
{{- if .Values.events.enabled }}{{ $_ := set $given "NODE_EVENTS" "true" }}{{ end }}
{{- if .Values.nodeCondition.enabled }}{{ $_ := set $given "NODE_CONDITION" "true" }}{{ end }}
{{- if .Values.nodeTaint.enabled }}{{ $_ := set $given "NODE_TAINT" "true" }}{{ end }}
{{- if .Values.draCheck.enabled }}{{ $_ := set $given "DRA_CHECK" "true" }}{{ end }}
{{- $labels := include "gpu-sharing-plugin.nodeLabels" . }}
{{- if $labels }}
{{- $_ := set $given "NODE_LABELS" $labels }}
{{- if .Values.nodeLabels.health }}{{ $_ := set $given "NODE_LABELS_HEALTH" "true" }}{{ end }}
{{- $_ := set $given "NODE_LABELS_INTERVAL" .Values.gfd.sleepInterval }}
{{- end }}
{{- if .Values.simulatedNode }}{{ $_ := set $given "NVIDIA_VISIBLE_DEVICES" "void" }}{{ end }}
{{- include "gpu-sharing-plugin.variables" $given }}
{{- end }}

{{/* The variables of the service for MPS. NVIDIA's runtime gives it the MPS programs for the capability compute. */}}
{{- define "gpu-sharing-plugin.mpsGiven" -}}
{{- $given := include "gpu-sharing-plugin.ofBoth" . | fromYaml }}
{{- $_ := set $given "METRICS_ADDRESS" (printf ":%d" (int .Values.mps.metricsPort)) }}
{{- $_ := set $given "NVIDIA_VISIBLE_DEVICES" (empty .Values.simulatedNode | ternary "all" "void") }}
{{- $_ := set $given "NVIDIA_DRIVER_CAPABILITIES" "compute,utility" }}
{{- $_ := set $given "MPS_CONTROL_PATH" .Values.mps.controlPath }}
{{- include "gpu-sharing-plugin.variables" $given }}
{{- if include "gpu-sharing-plugin.configMapName" . }}
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- end }}
{{- with .Values.mps.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "gpu-sharing-plugin.env" -}}
{{- include "gpu-sharing-plugin.given" . }}
{{- /* Page, status and Events name the node by it. It gives no right. */}}
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- if eq (include "gpu-sharing-plugin.nodeLabels" .) "nodefeature" }}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Whether there is a Service for the metrics port; empty: no. */}}
{{- define "gpu-sharing-plugin.hasService" -}}
{{- if or .Values.metrics.service.enabled .Values.metrics.serviceMonitor.enabled }}true{{ end }}
{{- end }}
