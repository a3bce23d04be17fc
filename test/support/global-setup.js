import { buildFaulty } from './faulty/build.js';

export default function globalSetup() {
  buildFaulty();
}
