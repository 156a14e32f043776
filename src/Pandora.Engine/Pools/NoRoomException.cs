namespace Pandora.Engine.Pools;

/// <summary>The host has no room for a microVM that no claim waits for.</summary>
internal sealed class NoRoomException() : Exception("the host has no room for another microVM");
