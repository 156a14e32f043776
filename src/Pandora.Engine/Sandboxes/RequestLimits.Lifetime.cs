using System.Text;

namespace Pandora.Engine.Sandboxes;

/// <content>How long sandboxes live, and what front ends keep with them.</content>
internal static partial class RequestLimits
{
    public const int MaxAnnotationBytes = 128 * 1024;

    /// <summary>Longest time from now on after which a sandbox may be asked to end.</summary>
    public static readonly TimeSpan MaxEnd = TimeSpan.FromHours(24);

    /// <summary>Checks a time after which a sandbox is to end.</summary>
    public static void CheckEnd(TimeSpan fromNow)
    {
        if (fromNow < TimeSpan.Zero || fromNow > MaxEnd)
        {
            throw PandoraException.Invalid(
                "timeout", $"must be between 0 and {MaxEnd.TotalSeconds:0} seconds, and is {fromNow.TotalSeconds:0.###}");
        }
    }

    /// <summary>Checks what a front end keeps with a sandbox.</summary>
    public static void CheckAnnotations(IReadOnlyDictionary<string, string> annotations)
    {
        var size = annotations.Sum(a => Encoding.UTF8.GetByteCount(a.Key) + Encoding.UTF8.GetByteCount(a.Value));
        if (size > MaxAnnotationBytes)
        {
            throw PandoraException.Invalid(
                "annotations", $"must be at most {MaxAnnotationBytes / 1024} KiB in all, and are {size} bytes");
        }
    }
}
