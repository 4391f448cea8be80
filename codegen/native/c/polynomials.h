/* Printed by graphc.codegen.native.minimax, which says how the numbers were found. */

GC_INLINE float gc_exp_polynomial(float x) { /* error 9.2e-08 */
    float p = 0.008290229365229607f;
    p = GC_FMA_F32(p, x, 0.04189838841557503f);
    p = GC_FMA_F32(p, x, 0.16667640209197998f);
    p = GC_FMA_F32(p, x, 0.49999144673347473f);
    p = GC_FMA_F32(p, x, 0.9999997019767761f);
    return p;
}

GC_INLINE float gc_expm1_polynomial(float x) { /* error 1.4e-08 */
    float p = 0.0013947597471997142f;
    p = GC_FMA_F32(p, x, 0.008367246948182583f);
    p = GC_FMA_F32(p, x, 0.041666265577077866f);
    p = GC_FMA_F32(p, x, 0.16666537523269653f);
    p = GC_FMA_F32(p, x, 0.5f);
    return p;
}

GC_INLINE float gc_log_polynomial(float x) { /* error 5.8e-09 */
    float p = -0.07634498924016953f;
    p = GC_FMA_F32(p, x, 0.1276157796382904f);
    p = GC_FMA_F32(p, x, -0.13160182535648346f);
    p = GC_FMA_F32(p, x, 0.14201757311820984f);
    p = GC_FMA_F32(p, x, -0.16623356938362122f);
    p = GC_FMA_F32(p, x, 0.20001226663589478f);
    p = GC_FMA_F32(p, x, -0.2500081956386566f);
    p = GC_FMA_F32(p, x, 0.3333333134651184f);
    return p;
}

GC_INLINE float gc_tanh_polynomial(float x) { /* error 1.0e-09 */
    float p = -0.0062742396257817745f;
    p = GC_FMA_F32(p, x, 0.021071679890155792f);
    p = GC_FMA_F32(p, x, -0.05385230854153633f);
    p = GC_FMA_F32(p, x, 0.13332585990428925f);
    p = GC_FMA_F32(p, x, -0.33333316445350647f);
    return p;
}

GC_INLINE float gc_erf_small_polynomial(float x) { /* error 7.8e-09 */
    float p = 6.856356048956513e-05f;
    p = GC_FMA_F32(p, x, -0.000768884492572397f);
    p = GC_FMA_F32(p, x, 0.005149473436176777f);
    p = GC_FMA_F32(p, x, -0.026832159608602524f);
    p = GC_FMA_F32(p, x, 0.11283040046691895f);
    p = GC_FMA_F32(p, x, -0.3761257529258728f);
    p = GC_FMA_F32(p, x, 1.1283791065216064f);
    return p;
}

GC_INLINE float gc_erf_large_polynomial(float x) { /* error 5.4e-09 */
    float p = 0.00012688437709584832f;
    p = GC_FMA_F32(p, x, -0.00045349798165261745f);
    p = GC_FMA_F32(p, x, 0.0027811210602521896f);
    p = GC_FMA_F32(p, x, 0.004238073248416185f);
    p = GC_FMA_F32(p, x, 0.047697924077510834f);
    p = GC_FMA_F32(p, x, 0.06741215288639069f);
    p = GC_FMA_F32(p, x, 1.0007449388504028f);
    return p;
}

GC_INLINE float gc_erfc_polynomial(float x) { /* error 1.8e-09 */
    float p = -0.0047613345086574554f;
    p = GC_FMA_F32(p, x, 0.0015472597442567348f);
    p = GC_FMA_F32(p, x, 0.02990546263754368f);
    p = GC_FMA_F32(p, x, -0.035131148993968964f);
    p = GC_FMA_F32(p, x, -0.12269017100334167f);
    p = GC_FMA_F32(p, x, 0.4921856224536896f);
    p = GC_FMA_F32(p, x, -0.8660763502120972f);
    p = GC_FMA_F32(p, x, 0.9072818160057068f);
    p = GC_FMA_F32(p, x, -0.5094373226165771f);
    p = GC_FMA_F32(p, x, -0.05094379559159279f);
    p = GC_FMA_F32(p, x, 1.286341667175293f);
    return p;
}

GC_INLINE float gc_sin_polynomial(float x) { /* error 1.1e-11 */
    float p = 2.7116902856505476e-06f;
    p = GC_FMA_F32(p, x, -0.00019838582375086844f);
    p = GC_FMA_F32(p, x, 0.008333327248692513f);
    p = GC_FMA_F32(p, x, -0.1666666716337204f);
    return p;
}

GC_INLINE float gc_cos_polynomial(float x) { /* error 2.6e-10 */
    float p = 2.436934482830111e-05f;
    p = GC_FMA_F32(p, x, -0.0013886720407754183f);
    p = GC_FMA_F32(p, x, 0.04166663438081741f);
    return p;
}

GC_INLINE float gc_atan_polynomial(float x) { /* error 2.6e-09 */
    float p = -0.001793619361706078f;
    p = GC_FMA_F32(p, x, 0.010914595797657967f);
    p = GC_FMA_F32(p, x, -0.0311778262257576f);
    p = GC_FMA_F32(p, x, 0.05795757472515106f);
    p = GC_FMA_F32(p, x, -0.0840344950556755f);
    p = GC_FMA_F32(p, x, 0.10952185094356537f);
    p = GC_FMA_F32(p, x, -0.14264242351055145f);
    p = GC_FMA_F32(p, x, 0.19998548924922943f);
    p = GC_FMA_F32(p, x, -0.33333298563957214f);
    return p;
}

GC_INLINE float gc_asin_polynomial(float x) { /* error 4.8e-09 */
    float p = 0.04216630756855011f;
    p = GC_FMA_F32(p, x, 0.02417951449751854f);
    p = GC_FMA_F32(p, x, 0.04547037556767464f);
    p = GC_FMA_F32(p, x, 0.07495297491550446f);
    p = GC_FMA_F32(p, x, 0.16666752099990845f);
    return p;
}

GC_INLINE float gc_sinh_polynomial(float x) { /* error 5.2e-11 */
    float p = 2.8169513370812638e-06f;
    p = GC_FMA_F32(p, x, 0.0001983615948120132f);
    p = GC_FMA_F32(p, x, 0.008333349600434303f);
    p = GC_FMA_F32(p, x, 0.1666666716337204f);
    return p;
}

#define GC_TURNS_0_0 0x1.45f306e000000p-1
#define GC_TURNS_0_1 -0x1.b1bbeb0000000p-32
#define GC_TURNS_0_2 0x1.4fe13abe8fa9ap-59
#define GC_TURNS_26_0 0x1.b939105000000p+0
#define GC_TURNS_26_1 0x1.29fc276000000p-30
#define GC_TURNS_26_2 -0x1.05c1596447e49p-59
#define GC_TURNS_52_0 0x1.529fc27000000p+0
#define GC_TURNS_52_1 0x1.5f47d4e000000p-30
#define GC_TURNS_52_2 -0x1.911f924eb5336p-59
#define GC_TURNS_78_0 0x1.d5f47d5000000p+0
#define GC_TURNS_78_1 -0x1.6447e48000000p-31
#define GC_TURNS_78_2 -0x1.3ad4cd8778df8p-59
