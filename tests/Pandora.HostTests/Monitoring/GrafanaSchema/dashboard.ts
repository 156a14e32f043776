// What a provisioned dashboard of ours may be, in Grafana's own published types. Excess and missing members, and values that Grafana does not know, do not compile.
import type { AnnotationQuery, Dashboard, FieldConfig, Panel, RowPanel, VariableModel } from '@grafana/schema';
import type { FieldConfig as HeatmapField, Options as HeatmapOptions } from '@grafana/schema/dist/types/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen.d.ts';
import type { Options as StatOptions } from '@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen.d.ts';
import type { FieldConfig as TimeSeriesField, Options as TimeSeriesOptions } from '@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen.d.ts';

// JSON has no enums: a member of one is written as its value.
type Plain<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T : T extends (infer U)[] ? Plain<U>[] : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;

interface PrometheusTarget {
  refId: string;
  datasource: { type: 'prometheus'; uid: string };
  expr: string;
  legendFormat: string;
  editorMode: 'code';
  range: boolean;
  instant?: boolean;
  format?: 'time_series' | 'heatmap' | 'table';
}

type Shown<Type extends string, Options, Custom> = Omit<Plain<Panel>, 'type' | 'options' | 'targets' | 'fieldConfig' | 'title' | 'description'> & {
  type: Type;
  title: string;
  description: string;
  targets: PrometheusTarget[];
  options: Plain<Options>;
  fieldConfig: { defaults: Omit<Plain<FieldConfig>, 'custom'> & Custom; overrides: NonNullable<Panel['fieldConfig']>['overrides'] };
};

type Measured<Type extends string, Options, Custom> = Shown<Type, Options, Custom & { unit: string; thresholds: Plain<NonNullable<FieldConfig['thresholds']>> }>;

export type PandoraPanel =
  | Measured<'stat', StatOptions, {}>
  | Measured<'timeseries', TimeSeriesOptions, { custom: Plain<TimeSeriesField> }>
  | Shown<'heatmap', HeatmapOptions, { custom: Plain<HeatmapField> }>
  | (Omit<Plain<RowPanel>, 'panels'> & { panels: [] });

export type PandoraDashboard = Omit<Plain<Dashboard>, 'panels' | 'annotations' | 'templating'> & {
  panels: PandoraPanel[];
  templating: { list: Plain<VariableModel>[] };
  annotations: { list: (Plain<AnnotationQuery> & { expr: string; titleFormat: string; textFormat: string })[] };
};
