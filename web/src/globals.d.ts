/** The address of the worker's script; build.mjs fills it in. */
declare const WORKER_URL: string;
declare module '*.css';
