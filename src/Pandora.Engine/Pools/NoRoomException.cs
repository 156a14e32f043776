using Pandora.Engine.Admission;

namespace Pandora.Engine.Pools;

/// <summary>The host has no room for a microVM that no claim waits for.</summary>
/// <param name="size">Size of the microVM.</param>
internal sealed class NoRoomException(MicroVmSize size) : Exception("the host has no room for another microVM")
{
    /// <summary>Size of the microVM.</summary>
    public MicroVmSize Size => size;
}
